//! The engine: asks the store, runs, settles. It works on data and knows nothing about HTTP, so
//! requests, jobs and tests share it.
//!
//! [`Job::ask`] claims a key, or waits for whoever holds it, and returns what it [`Found`]. If that
//! is a claim, [`Claimed::settle`] does the work, stores what is to be kept of it or releases the
//! key, and returns how it [`Settled`]. A claim is either held by a lease or part of a transaction
//! (`transaction`) that the work takes part in. Work that has begun is never cancelled: if its
//! caller goes away, it is handed over to a task.

mod ask;
mod background;
mod by_hand;
mod calls;
mod claimed;
mod code;
mod event;
mod fields;
mod gauge;
mod hand_over;
mod hasher;
mod idempotency_key;
mod in_flight;
mod job;
pub(crate) mod key;
#[cfg(feature = "metrics")]
mod metrics;
mod near;
mod outage;
pub(crate) mod record;
mod records;
mod renewal;
#[cfg(feature = "seal")]
mod sealing;
mod settings;
mod tell;
mod text;
#[cfg(feature = "postgres")]
mod transaction;
mod waiting;

#[cfg(feature = "seal")]
pub use self::sealing::Sealing;
#[cfg(feature = "postgres")]
pub(crate) use self::transaction::{Isolation, Unkeyed};
#[cfg(feature = "postgres")]
pub use self::transaction::{ReadCommitted, RepeatableRead, Serializable, Tx};
pub(crate) use self::{
    ask::{Asking, Found, Refusal},
    claimed::{Claimed, Keep, Settled},
    fields::{Digest, DigestSecret, Digesting, Fields, version},
    hand_over::HandOver,
    job::Job,
    key::Key,
    settings::Engine,
    tell::{Watch, is_heard},
    text::Text,
};
pub use self::{
    by_hand::{Done, Forget, Operation, OperationKey, OperationState, RunError, StoredKind},
    code::ProblemCode,
    event::{Decision, Event, Replayed, StoreCall, StoreResult, StoreVerb},
    hasher::StableHasher,
    idempotency_key::IdempotencyKey,
    in_flight::Undrained,
    settings::OnStoreError,
    text::OptionalDisplay,
};
