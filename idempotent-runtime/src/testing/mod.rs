//! Helpers for testing services that use the library, and stores.
//!
//! - [`assert_executed`] and [`assert_replayed`] check whether a handler ran for a response.
//! - [`FailingStore`] is a store that fails when the test says so.
//! - [`IdempotencyKey::new`](crate::IdempotencyKey::new) creates the key for a handler that is
//!   called directly. It needs no feature.
//! - [`conformance`] checks any [`Store`](crate::Store).
//!
//! "Testing your handlers", a page in the documentation of `idempotent-axum`, shows how to use
//! them.

mod assertions;
mod conformance;
mod failing_store;

pub use self::{
    assertions::{assert_executed, assert_replayed},
    conformance::conformance,
    failing_store::{FailingStore, Fault, Verb},
};
