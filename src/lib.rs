#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub use idempotent_macros::idempotent;
#[doc(inline)]
pub use idempotent_runtime::{
    Attempt, Claim, Decision, Done, Event, Fingerprint, Forget, Forgotten, Hold, Idempotency,
    IdempotencyKey, IdempotencyService, Idempotent, InstallError, KeyState, OnStoreError,
    Operation, OperationKey, OperationState, OptionalDisplay, Outcome, Pollers, Problem,
    ProblemCode, Replayed, RunBoundary, RunBoundaryService, RunError, Store, StoreCall, StoreError,
    StoreKey, StoreResult, StoreVerb, StoredKind, Token, Undrained,
};

#[cfg(any(feature = "postgres", feature = "redis"))]
#[doc(inline)]
pub use idempotent_runtime::ConnectError;
#[cfg(any(feature = "aide", feature = "utoipa"))]
#[doc(inline)]
pub use idempotent_runtime::openapi;
#[cfg(feature = "testing")]
#[doc(inline)]
pub use idempotent_runtime::testing;
#[cfg(feature = "memory")]
#[doc(inline)]
pub use idempotent_runtime::{MemoryStore, MemoryStoreBuilder};
#[cfg(feature = "postgres")]
#[doc(inline)]
pub use idempotent_runtime::{
    PostgresStore, PostgresStoreBuilder, PurgeTask, ReadCommitted, RepeatableRead, Serializable,
    Tx, TxError, TxRejection,
};
#[cfg(feature = "redis")]
#[doc(inline)]
pub use idempotent_runtime::{RedisConnection, RedisStore, RedisStoreBuilder};

#[doc(hidden)]
pub use idempotent_runtime::__private;

#[doc = include_str!("../docs/features.md")]
pub mod features {}

#[doc = include_str!("../docs/choosing-a-store.md")]
pub mod choosing_a_store {}

#[doc = include_str!("../docs/what-belongs-to-a-run.md")]
pub mod what_belongs_to_a_run {}

#[doc = include_str!("../docs/exactly-once.md")]
pub mod exactly_once {}

#[doc = include_str!("../docs/keys-by-hand.md")]
pub mod keys_by_hand {}

#[doc = include_str!("../docs/jobs.md")]
pub mod jobs {}

#[doc = include_str!("../docs/openapi.md")]
pub mod describing_an_api {}
#[doc = include_str!("../docs/operating.md")]
pub mod operating {}
