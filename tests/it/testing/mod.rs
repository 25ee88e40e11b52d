//! What the library offers for users' own tests: assertions, a store that fails, and a clock that
//! advances ttls.

mod assertions;
mod failing_store;
mod time;
