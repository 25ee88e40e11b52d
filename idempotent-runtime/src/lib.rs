//! The runtime of [`idempotent-axum`](https://docs.rs/idempotent-axum): everything that happens at
//! run time.
//!
//! Depend on `idempotent-axum`, which re-exports the public items of this crate along with the
//! attribute. A crate that implements a [`Store`] may depend on this one alone.
//!
//! Three rooms, one direction: `http/` names Axum, and turns requests into jobs and their results
//! into responses; `engine/` asks, runs and settles, working on data; `store/` holds claims and
//! responses.

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

#[cfg(feature = "seal")]
pub use self::engine::Sealing;
#[cfg(any(feature = "aide", feature = "utoipa"))]
pub use self::http::openapi;
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
pub use self::store::ConnectError;
#[cfg(feature = "memory")]
pub use self::store::{MemoryStore, MemoryStoreBuilder};
#[cfg(feature = "postgres")]
pub use self::store::{PostgresStore, PostgresStoreBuilder, PurgeTask};
#[cfg(feature = "redis")]
pub use self::store::{RedisConnection, RedisStore, RedisStoreBuilder};
#[cfg(feature = "sqlite")]
pub use self::store::{SqliteStore, SqliteStoreBuilder, SqliteSynchronous};
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

/// The target of all spans and log lines, whatever crate and module they come from.
const TARGET: &str = "idempotent_axum";

/// What the attribute's expansion refers to. Not part of the public API.
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

    /// Stands for a value of a declared type, in code that is compiled but never runs.
    #[must_use]
    pub fn output<T>() -> T {
        unreachable!("the expansion never calls this")
    }
}
