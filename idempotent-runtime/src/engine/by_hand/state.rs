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

/// What a key holds: [`OperationKey::state`].
///
/// ```
/// use idempotent_runtime::OperationState;
///
/// fn describe(state: OperationState) -> &'static str {
///     match state {
///         OperationState::Absent => "free",
///         OperationState::Running { .. } => "running",
///         OperationState::Stored { .. } => "stored",
///         _ => "unknown to this version",
///     }
/// }
///
/// assert_eq!(describe(OperationState::Running { lease_left: None }), "running");
/// ```
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
        /// When the key is free again: what is left of its ttl according to the store, added to
        /// this machine's clock.
        expires_at: SystemTime,
    },
}

/// What is stored under a key.
///
/// ```
/// use idempotent_runtime::{Idempotency, MemoryStore, OperationState, StoredKind};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let key = Idempotency::new(MemoryStore::new()).operation("charge-card").key("message-1");
/// key.clone().run(|_| async { Ok::<_, ()>(7) }).await.unwrap();
/// let state = key.state().await?;
/// assert!(matches!(state, OperationState::Stored { kind: StoredKind::Value, .. }));
/// # Ok::<_, idempotent_runtime::StoreError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoredKind {
    /// A response, which is replayed.
    Response {
        /// Its status code.
        status: u16,
    },
    /// The value of a [`run`](OperationKey::run), which is returned again.
    Value,
    /// A note that the work is done but its answer could not be stored: duplicates get 409.
    NotStored,
    /// A note that it is unknown whether the work took effect: duplicates get 409.
    Unknown,
    /// A corrupt record, one written by another release, or one that this service's
    /// [`seal`](crate::Idempotency::seal) settings cannot open.
    Unreadable,
}

impl OperationKey {
    /// Reads what the key holds in the store, without changing it.
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
    /// [`store_timeout`](crate::Idempotency::store_timeout), or if the key holds an entry written
    /// by another release or another program.
    pub async fn state(&self) -> Result<OperationState, StoreError> {
        let Self { engine, digest, .. } = self;
        let state = engine.within_limit(engine.store.store().read(*digest)).await?;
        Ok(match state {
            KeyState::Absent => OperationState::Absent,
            KeyState::Running { lease_left, .. } => OperationState::Running { lease_left },
            KeyState::Stored { fingerprint, record, expires_in } => OperationState::Stored {
                kind: kind(engine.read_record(*digest, fingerprint, record).ok()),
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

/// The time `after` from now, or the latest that a clock can represent.
fn later(after: Duration) -> SystemTime {
    const CENTURY: Duration = Duration::from_secs(24 * 365 * 100 * 3600);
    SystemTime::now() + after.min(CENTURY)
}

impl Engine {
    /// Asks the store about a key that nothing uses.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        let (mut nobody, key) = (operation("idempotent-axum: check"), Key::exact(""));
        let key = store_key(&mut nobody, None, &key, &self.digesting);
        self.within_limit(self.store.store().read(key)).await.map(drop)
    }
}
