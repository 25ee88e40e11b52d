//! The runtime of [`idempotent-axum`](https://docs.rs/idempotent-axum): everything that runs.
//!
//! Depend on `idempotent-axum`, which re-exports what is public here beside the attribute. A crate
//! that implements a [`Store`] may depend on this one alone.

mod body;
mod capture;
mod detach;
mod execute;
mod fields;
mod fingerprint;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod idempotency;
mod idempotency_key;
mod identity;
mod key;
mod last_parameter;
mod operation;
mod outcome;
mod policy;
mod problem;
#[cfg(test)]
mod properties;
mod record;
mod store;
#[cfg(feature = "testing")]
pub mod testing;

#[cfg(any(feature = "postgres", feature = "redis"))]
pub use store::ConnectError;
#[cfg(feature = "memory")]
pub use store::memory::{MemoryStore, MemoryStoreBuilder};
#[cfg(feature = "postgres")]
pub use store::postgres::{PostgresStore, PostgresStoreBuilder, PurgeTask};
#[cfg(feature = "redis")]
pub use store::redis::{RedisConnection, RedisStore, RedisStoreBuilder};
pub use {
    idempotency::{Idempotency, OnStoreError},
    idempotency_key::IdempotencyKey,
    identity::OptionalDisplay,
    last_parameter::LastParameter,
    outcome::Outcome,
    problem::Problem,
    store::{
        Attempt, Claim, Fingerprint, Forgotten, Hold, Pollers, State, Store, StoreError, StoreKey,
        Token,
    },
};

/// What the attribute's expansion names. Not part of the public API.
#[doc(hidden)]
pub mod __private {
    pub use crate::{
        fingerprint::StableHasher,
        identity::{Facts, OptionalDisplay},
        last_parameter::{LastParameter, Via},
        policy::{FingerprintSource, Format, KeySource, Policy, Replay},
    };
    pub use axum::response::{IntoResponse, Response};
    pub use http::HeaderName;
    pub use std::hash::Hash;

    /// Stands for a value of a declared type, in code that the compiler checks and nothing runs.
    #[must_use]
    pub fn output<T>() -> T {
        unreachable!("the expansion never calls this")
    }
}
