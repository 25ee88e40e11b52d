//! Guarantee *Bounded memory, no silent loss*: the memory store keeps its bound, and so do the
//! bodies of waiting duplicates and the runs that outlive their callers.

mod detached;
mod store;
mod waiting;
