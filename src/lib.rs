// One of its programs needs PostgreSQL, so without that feature the README is not doc-tested.
#![cfg_attr(any(not(doctest), feature = "postgres"), doc = include_str!("../README.md"))]
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

#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
#[doc(inline)]
pub use idempotent_runtime::ConnectError;
#[cfg(feature = "seal")]
#[doc(inline)]
pub use idempotent_runtime::Sealing;
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
#[cfg(feature = "sqlite")]
#[doc(inline)]
pub use idempotent_runtime::{SqliteStore, SqliteStoreBuilder, SqliteSynchronous};

#[doc(hidden)]
pub use idempotent_runtime::__private;

// The pictures come first, as data: if Markdown has two definitions of a name, the first one
// counts.
#[doc = include_str!("../docs/how-it-works-images.md")]
#[doc = include_str!("../docs/how-it-works.md")]
pub mod how_it_works {}

#[doc = include_str!("../docs/choosing-keys.md")]
pub mod choosing_keys {}
#[doc = include_str!("../docs/features.md")]
pub mod features {}

#[doc = include_str!("../docs/choosing-a-store.md")]
pub mod choosing_a_store {}

#[doc = include_str!("../docs/what-belongs-to-a-run.md")]
pub mod what_belongs_to_a_run {}

#[doc = include_str!("../docs/exactly-once.md")]
pub mod exactly_once {}

#[doc = include_str!("../docs/retrying.md")]
pub mod retrying {}

#[doc = include_str!("../docs/keys-by-hand.md")]
pub mod keys_by_hand {}

#[doc = include_str!("../docs/jobs.md")]
pub mod jobs {}

#[doc = include_str!("../docs/testing-your-handlers.md")]
pub mod testing_your_handlers {}
#[doc = include_str!("../docs/sealing.md")]
pub mod sealing {}

#[doc = include_str!("../docs/openapi.md")]
pub mod describing_an_api {}

#[doc = include_str!("../docs/operating.md")]
pub mod operating {}

#[doc = include_str!("../docs/writing-a-store.md")]
pub mod writing_a_store {}

#[doc = include_str!("../docs/limits.md")]
pub mod limits {}

#[doc = include_str!("../docs/migrating.md")]
pub mod migrating {}

#[doc = include_str!("../docs/comparison.md")]
pub mod comparison {}
