//! The runtime of [`idempotent-axum`](https://docs.rs/idempotent-axum): everything that runs.
//!
//! Depend on `idempotent-axum`, which re-exports what is public here beside the attribute. A crate
//! that implements a [`Store`] may depend on this one alone.
//!
//! Three rooms, one direction: `http/` names Axum and turns a request into what is asked, and what
//! was found into a response; `engine/` asks, runs and settles, in data; `store/` is where claims
//! and responses live.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod engine;
#[cfg(feature = "postgres")]
mod failpoint;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod http;
#[cfg(test)]
mod properties;
mod store;
#[cfg(feature = "testing")]
pub mod testing;

#[cfg(any(feature = "aide", feature = "utoipa"))]
pub use self::http::openapi;
#[cfg(any(feature = "postgres", feature = "redis"))]
pub use self::store::ConnectError;
#[cfg(feature = "memory")]
pub use self::store::{MemoryStore, MemoryStoreBuilder};
#[cfg(feature = "postgres")]
pub use self::store::{PostgresStore, PostgresStoreBuilder, PurgeTask};
#[cfg(feature = "redis")]
pub use self::store::{RedisConnection, RedisStore, RedisStoreBuilder};
pub use self::{
    engine::{
        Decision, Done, Event, Forget, IdempotencyKey, OnStoreError, Operation, OperationKey,
        OperationState, OptionalDisplay, ProblemCode, Replayed, RunError, StoreCall, StoreResult,
        StoreVerb, StoredKind, Undrained,
    },
    http::{
        Idempotency, IdempotencyService, Idempotent, InstallError, Outcome, Problem, RunBoundary,
        RunBoundaryService,
    },
    store::{
        Attempt, Claim, Fingerprint, Forgotten, Hold, KeyState, Pollers, Store, StoreError,
        StoreKey, Token,
    },
};
#[cfg(feature = "postgres")]
pub use self::{
    engine::{ReadCommitted, RepeatableRead, Serializable, Tx},
    http::{TxError, TxRejection},
};

/// The target of all spans and log lines, whichever crate and module they are in.
const TARGET: &str = "idempotent_axum";

/// What the attribute's expansion names. Not part of the public API.
#[doc(hidden)]
pub mod __private {
    #[cfg(feature = "utoipa")]
    pub use crate::http::openapi;
    pub use crate::{
        engine::{OptionalDisplay, StableHasher},
        http::{
            Evaluated, Idempotent, Known, Probe, Via,
            policy::{FingerprintSource, Format, KeySource, Policy, Replay, Stage},
        },
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
