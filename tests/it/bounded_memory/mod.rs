//! Guarantee *Bounded memory, no silent loss*: the memory store stays within its bound, as do the
//! bodies of waiting duplicates and the runs that outlive their callers.

mod detached;
mod store;
mod waiting;
