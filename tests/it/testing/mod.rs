//! What the library gives to people's own tests: assertions, a store that fails, a clock that moves
//! ttls on, and the example that shows them.

mod assertions;
mod example;
mod failing_store;
mod time;
