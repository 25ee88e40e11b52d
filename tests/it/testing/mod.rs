//! What the library gives to people's own tests: assertions, a store that fails, and a clock that
//! moves ttls on.

mod assertions;
mod failing_store;
mod time;
