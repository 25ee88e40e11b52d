//! Helpers for tests: of services that use the library, and of stores.
//!
//! - [`assert_executed`] and [`assert_replayed`] say of a response whether its handler ran for it.
//! - [`FailingStore`] is a store that fails when the test says so.
//! - [`IdempotencyKey::new`](crate::IdempotencyKey::new) makes the key for a handler that is called
//!   directly. It needs no feature.
//! - [`conformance`] checks any [`Store`](crate::Store).
//!
//! "Testing your handlers", a page in the documentation of `idempotent-axum`, shows them at work.

mod assertions;
mod conformance;
mod failing_store;

pub use self::{
    assertions::{assert_executed, assert_replayed},
    conformance::conformance,
    failing_store::{FailingStore, Fault, Verb},
};
