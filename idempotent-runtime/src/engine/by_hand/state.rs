//! What a key holds.

use std::time::{Duration, SystemTime};

use super::{Engine, OperationKey};
use crate::{
    engine::{
        key::{Key, operation, store_key},
        record::{self, Record},
    },
    store::{KeyState, StoreError},
};

/// What a key holds, for people: [`OperationKey::state`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OperationState {
    /// Nothing: the next request with the key runs.
    Absent,
    /// A request with the key is running.
    Running {
        /// What is left of its lease, which is renewed while it runs; `None` if the claim cannot
        /// outlive its process, or is part of a transaction.
        lease_left: Option<Duration>,
    },
    /// A request with the key has run.
    Stored {
        /// What is stored of it.
        kind: StoredKind,
        /// When the key is free again: what the store says is left of its ttl, by the clock of this
        /// machine.
        expires_at: SystemTime,
    },
}

/// What is stored under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoredKind {
    /// A response, which is replayed.
    Response {
        /// Its status code.
        status: u16,
    },
    /// The value of a [`run`](OperationKey::run), which is given back.
    Value,
    /// A note that the work is done and its answer could not be stored: duplicates get 409.
    NotStored,
    /// A note that nobody knows whether the work took effect: duplicates get 409.
    Unknown,
    /// A damaged record, or one of another release.
    Unreadable,
}

impl OperationKey {
    /// What the key holds in the store. Changes nothing.
    ///
    /// ```
    /// use idempotent_runtime::{Idempotency, MemoryStore, OperationState, StoredKind};
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let idempotency = Idempotency::new(MemoryStore::new());
    /// let key = idempotency.operation("charge-card").key("message-1");
    /// assert_eq!(key.state().await?, OperationState::Absent);
    /// key.clone().run(|_| async { Ok::<_, ()>("receipt".to_owned()) }).await.unwrap();
    /// let OperationState::Stored { kind, .. } = key.state().await? else { panic!() };
    /// assert_eq!(kind, StoredKind::Value);
    /// # Ok::<_, idempotent_runtime::StoreError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the store could not be asked within
    /// [`store_timeout`](crate::Idempotency::store_timeout), or if the key holds an entry that
    /// another release or another program has written.
    pub async fn state(&self) -> Result<OperationState, StoreError> {
        let Self { engine, digest, .. } = self;
        let state = engine.within_limit(engine.store.store().read(*digest)).await?;
        Ok(match state {
            KeyState::Absent => OperationState::Absent,
            KeyState::Running { lease_left, .. } => OperationState::Running { lease_left },
            KeyState::Stored { record, expires_in, .. } => OperationState::Stored {
                kind: kind(record::open(record, engine.store.is_memory()).ok()),
                expires_at: later(expires_in),
            },
        })
    }
}

fn kind(record: Option<Record>) -> StoredKind {
    match record {
        Some(Record::Answer(answer)) => match record::status(&answer) {
            Some(status) => StoredKind::Response { status },
            None => StoredKind::Unreadable,
        },
        Some(Record::Value(_)) => StoredKind::Value,
        Some(Record::NotStored) => StoredKind::NotStored,
        Some(Record::Unknown) => StoredKind::Unknown,
        None => StoredKind::Unreadable,
    }
}

/// So long from now, or as late as a clock can say.
fn later(after: Duration) -> SystemTime {
    const CENTURY: Duration = Duration::from_hours(24 * 365 * 100);
    SystemTime::now() + after.min(CENTURY)
}

impl Engine {
    /// Asks the store about a key that nobody uses.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        let key = store_key(&mut operation("idempotent-axum: check"), None, &Key::exact(""));
        self.within_limit(self.store.store().read(key)).await.map(drop)
    }
}
