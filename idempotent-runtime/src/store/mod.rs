//! Where claims and stored responses live.
//!
//! [`Store`] is the trait that a store implements: seven methods, each atomic. A store only sees
//! digests and opaque bytes; timeouts, retries, renewal, the record's format and the comparison of
//! fingerprints belong to the runtime.

use std::{future::Future, time::Duration};

use bytes::Bytes;

mod attempt;
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
mod cause;
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
mod connect_error;
pub(crate) mod digest;
mod erased;
mod error;
#[cfg(any(feature = "memory", feature = "sqlite"))]
mod evictions;
mod handle;
#[cfg(feature = "memory")]
pub(crate) mod memory;
mod poll;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(feature = "sqlite")]
#[expect(clippy::incompatible_msrv, reason = "sqlx asks for Rust 1.94")]
pub(crate) mod sqlite;
#[cfg(not(feature = "memory"))]
pub(crate) mod unconfigured;

#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
pub use self::connect_error::ConnectError;
pub use self::{
    attempt::{Attempt, Token},
    digest::{Fingerprint, StoreKey},
    error::StoreError,
    poll::Pollers,
};
pub(crate) use self::{
    erased::{BoxFuture, ErasedStore},
    handle::StoreHandle,
    poll::jittered,
};

#[cfg(feature = "postgres")]
pub(crate) use self::postgres::Slot;
/// No store supports transactions.
#[cfg(not(feature = "postgres"))]
#[derive(Clone)]
pub(crate) enum Slot {}

#[cfg(feature = "memory")]
pub use self::memory::{MemoryStore, MemoryStoreBuilder};
#[cfg(feature = "postgres")]
pub use self::postgres::{PostgresStore, PostgresStoreBuilder, PurgeTask};
#[cfg(feature = "redis")]
pub use self::redis::{RedisConnection, RedisStore, RedisStoreBuilder};
#[cfg(feature = "sqlite")]
pub use self::sqlite::{SqliteStore, SqliteStoreBuilder, SqliteSynchronous};
#[cfg(not(feature = "memory"))]
pub(crate) use self::unconfigured::Unconfigured;

/// Identifies the type that a last parameter was extracted as: [`TypeId::of`](std::any::TypeId::of)
/// itself, which takes half the space of its result.
pub(crate) type Extracted = fn() -> std::any::TypeId;

/// Holds claims and stored responses.
///
/// Each method is one atomic step, judged by the store's own clock, and safe to repeat with the
/// same [`Token`]: the runtime repeats a call that was not answered, except for
/// [`forget`](Store::forget), which has no token.
///
/// A key is in one of three states:
///
/// | state | entered by | left by |
/// |---|---|---|
/// | absent | nothing, expiry, a lapsed lease, [`release`](Store::release), [`forget`](Store::forget) | [`claim`](Store::claim) |
/// | running, held by one token | [`claim`](Store::claim) | [`complete`](Store::complete), [`release`](Store::release), a lapsed lease, [`forget`](Store::forget) if asked to |
/// | stored, until its ttl passes | [`complete`](Store::complete) | expiry, [`forget`](Store::forget) |
///
/// Expired means absent: no method shows a claim whose lease has lapsed or a record whose ttl has
/// passed. A store never evicts a running claim.
///
/// A store that cannot notify waiters when a claim ends polls, using [`Pollers`].
///
/// # A complete store
///
/// One map behind one lock, for one process: atomic because of the lock, fenced because every
/// method compares the token. [`testing::conformance`](crate::testing::conformance) (feature
/// `testing`) checks it, and yours.
///
/// ```
/// use std::{
///     collections::HashMap,
///     sync::{Mutex, MutexGuard},
///     time::{Duration, Instant},
/// };
///
/// use bytes::Bytes;
/// use idempotent_runtime::{
///     Attempt, Claim, Fingerprint, Forgotten, Hold, KeyState, Store, StoreError, StoreKey, Token,
/// };
///
/// #[derive(Default)]
/// struct MapStore(Mutex<HashMap<StoreKey, Entry>>);
///
/// struct Entry {
///     fingerprint: Fingerprint,
///     token: Token,
///     /// `None` while the claim is running.
///     record: Option<Bytes>,
///     expires: Instant,
/// }
///
/// impl Entry {
///     fn is_held_by(&self, token: Token) -> bool {
///         self.token == token && self.record.is_none()
///     }
///
///     fn left(&self) -> Duration {
///         self.expires.saturating_duration_since(Instant::now())
///     }
/// }
///
/// impl MapStore {
///     /// The entries; that of `key` is gone if it has expired.
///     fn entries(&self, key: StoreKey) -> MutexGuard<'_, HashMap<StoreKey, Entry>> {
///         let mut entries = self.0.lock().unwrap();
///         if entries.get(&key).is_some_and(|entry| entry.expires <= Instant::now()) {
///             entries.remove(&key);
///         }
///         entries
///     }
/// }
///
/// impl Store for MapStore {
///     async fn claim(&self, attempt: &Attempt, lease: Duration) -> Result<Claim, StoreError> {
///         let Attempt { key, fingerprint, token, .. } = *attempt;
///         let new = Entry { fingerprint, token, record: None, expires: Instant::now() + lease };
///         let mut entries = self.entries(key);
///         let entry = entries.entry(key).or_insert(new);
///         Ok(match &entry.record {
///             Some(record) => Claim::Stored {
///                 fingerprint: entry.fingerprint,
///                 record: record.clone(),
///                 expires_in: entry.left(),
///             },
///             None if entry.token == token => Claim::Claimed { lease: Some(lease) },
///             None => Claim::Running {
///                 fingerprint: Some(entry.fingerprint),
///                 lease_left: Some(entry.left()),
///             },
///         })
///     }
///
///     async fn renew(&self, attempt: &Attempt, lease: Duration) -> Result<Hold, StoreError> {
///         let mut entries = self.entries(attempt.key);
///         match entries.get_mut(&attempt.key).filter(|entry| entry.is_held_by(attempt.token)) {
///             Some(entry) => {
///                 entry.expires = Instant::now() + lease;
///                 Ok(Hold::Held)
///             }
///             None => Ok(Hold::Lost),
///         }
///     }
///
///     async fn complete(
///         &self,
///         attempt: &Attempt,
///         record: Bytes,
///         ttl: Duration,
///     ) -> Result<Hold, StoreError> {
///         let mut entries = self.entries(attempt.key);
///         match entries.get_mut(&attempt.key).filter(|entry| entry.token == attempt.token) {
///             Some(entry) => {
///                 if entry.record.is_none() {
///                     entry.record = Some(record);
///                     entry.expires = Instant::now() + ttl;
///                 }
///                 Ok(Hold::Held)
///             }
///             None => Ok(Hold::Lost),
///         }
///     }
///
///     async fn release(&self, attempt: &Attempt) -> Result<(), StoreError> {
///         let mut entries = self.entries(attempt.key);
///         if entries.get(&attempt.key).is_some_and(|entry| entry.is_held_by(attempt.token)) {
///             entries.remove(&attempt.key);
///         }
///         Ok(())
///     }
///
///     async fn wait(&self, _key: StoreKey, at_most: Duration) {
///         // Coming back early is allowed: the runtime looks again, at its own pace.
///         tokio::time::sleep(at_most.min(Duration::from_millis(20))).await;
///     }
///
///     async fn read(&self, key: StoreKey) -> Result<KeyState, StoreError> {
///         let entries = self.entries(key);
///         let Some(entry) = entries.get(&key) else { return Ok(KeyState::Absent) };
///         let fingerprint = entry.fingerprint;
///         Ok(match &entry.record {
///             Some(record) => {
///                 KeyState::Stored { fingerprint, record: record.clone(), expires_in: entry.left() }
///             }
///             None => KeyState::Running {
///                 fingerprint: Some(fingerprint),
///                 lease_left: Some(entry.left()),
///             },
///         })
///     }
///
///     async fn forget(
///         &self,
///         key: StoreKey,
///         even_if_running: bool,
///     ) -> Result<Forgotten, StoreError> {
///         let mut entries = self.entries(key);
///         Ok(match entries.get(&key) {
///             None => Forgotten::Absent,
///             Some(entry) if entry.record.is_none() && !even_if_running => {
///                 Forgotten::StillRunning { lease_left: Some(entry.left()) }
///             }
///             Some(_) => {
///                 entries.remove(&key);
///                 Forgotten::Freed
///             }
///         })
///     }
/// }
///
/// # #[cfg(feature = "testing")]
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// idempotent_runtime::testing::conformance(MapStore::default()).await;
/// # });
/// ```
pub trait Store: Send + Sync + 'static {
    /// Claims the attempt's key if it is absent, otherwise returns what it holds.
    ///
    /// Of any number of concurrent calls on an absent key, exactly one gets [`Claim::Claimed`]. If
    /// the attempt's token already holds the claim, the result is `Claimed` again. The claim holds
    /// for `lease`, except in a store whose claims cannot be orphaned, which returns `lease: None`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use bytes::Bytes;
    /// # use idempotent_runtime::*;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let (store, lease) = (MemoryStore::new(), Duration::from_secs(30));
    /// # let fingerprint = Fingerprint::from_bytes([2; 16]);
    /// # let attempt = Attempt::new(StoreKey::from_bytes([1; 16]), fingerprint, Token::random());
    /// assert_eq!(store.claim(&attempt, lease).await?, Claim::Claimed { lease: None });
    /// # Ok::<_, StoreError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the store could not be asked, or its answer did not arrive: the claim
    /// may have been made, unless the error is [`StoreError::not_sent`].
    fn claim(
        &self,
        attempt: &Attempt,
        lease: Duration,
    ) -> impl Future<Output = Result<Claim, StoreError>> + Send;

    /// Extends the claim to `lease` from now.
    ///
    /// Never affects a record or the claim of another token.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use bytes::Bytes;
    /// # use idempotent_runtime::*;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let (store, lease) = (MemoryStore::new(), Duration::from_secs(30));
    /// # let fingerprint = Fingerprint::from_bytes([2; 16]);
    /// # let attempt = Attempt::new(StoreKey::from_bytes([1; 16]), fingerprint, Token::random());
    /// store.claim(&attempt, lease).await?;
    /// assert_eq!(store.renew(&attempt, lease).await?, Hold::Held);
    /// # Ok::<_, StoreError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the store could not be asked, or its answer did not arrive.
    fn renew(
        &self,
        attempt: &Attempt,
        lease: Duration,
    ) -> impl Future<Output = Result<Hold, StoreError>> + Send;

    /// Replaces the attempt's claim with `record`, for `ttl`.
    ///
    /// [`Hold::Held`] means that it is stored, or was already stored by this token; [`Hold::Lost`]
    /// that the token no longer holds the key, and nothing changed.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use bytes::Bytes;
    /// # use idempotent_runtime::*;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let (store, lease) = (MemoryStore::new(), Duration::from_secs(30));
    /// # let fingerprint = Fingerprint::from_bytes([2; 16]);
    /// # let attempt = Attempt::new(StoreKey::from_bytes([1; 16]), fingerprint, Token::random());
    /// store.claim(&attempt, lease).await?;
    /// let (record, ttl) = (Bytes::from_static(b"record"), Duration::from_secs(3600));
    /// assert_eq!(store.complete(&attempt, record, ttl).await?, Hold::Held);
    /// # Ok::<_, StoreError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the record can never fit ([`StoreError::too_large`]), in which case the
    /// claim is untouched. Any other error means that the outcome is unknown, and the call is
    /// repeated.
    fn complete(
        &self,
        attempt: &Attempt,
        record: Bytes,
        ttl: Duration,
    ) -> impl Future<Output = Result<Hold, StoreError>> + Send;

    /// Frees the key if the attempt's token holds a running claim on it, otherwise does nothing.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use bytes::Bytes;
    /// # use idempotent_runtime::*;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let (store, lease) = (MemoryStore::new(), Duration::from_secs(30));
    /// # let fingerprint = Fingerprint::from_bytes([2; 16]);
    /// # let attempt = Attempt::new(StoreKey::from_bytes([1; 16]), fingerprint, Token::random());
    /// store.claim(&attempt, lease).await?;
    /// store.release(&attempt).await?;
    /// assert_eq!(store.read(attempt.key).await?, KeyState::Absent);
    /// # Ok::<_, StoreError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the store could not be asked, or its answer did not arrive.
    fn release(&self, attempt: &Attempt) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns when `key` may have stopped running.
    ///
    /// It may return early (the runtime paces itself) but never later than `at_most`, and does not
    /// miss an end that came before the call.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use bytes::Bytes;
    /// # use idempotent_runtime::*;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let (store, lease) = (MemoryStore::new(), Duration::from_secs(30));
    /// # let fingerprint = Fingerprint::from_bytes([2; 16]);
    /// # let attempt = Attempt::new(StoreKey::from_bytes([1; 16]), fingerprint, Token::random());
    /// store.claim(&attempt, lease).await?;
    /// store.release(&attempt).await?;
    /// // Returns at once: the run has ended.
    /// store.wait(attempt.key, Duration::from_secs(3600)).await;
    /// assert_eq!(store.read(attempt.key).await?, KeyState::Absent);
    /// # Ok::<_, StoreError>(())
    /// # }).unwrap();
    /// ```
    fn wait(&self, key: StoreKey, at_most: Duration) -> impl Future<Output = ()> + Send;

    /// Returns what `key` holds, without changing it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use bytes::Bytes;
    /// # use idempotent_runtime::*;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let (store, lease) = (MemoryStore::new(), Duration::from_secs(30));
    /// # let fingerprint = Fingerprint::from_bytes([2; 16]);
    /// # let attempt = Attempt::new(StoreKey::from_bytes([1; 16]), fingerprint, Token::random());
    /// store.claim(&attempt, lease).await?;
    /// assert!(matches!(store.read(attempt.key).await?, KeyState::Running { .. }));
    /// # Ok::<_, StoreError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the store could not be asked, or its answer did not arrive.
    fn read(&self, key: StoreKey) -> impl Future<Output = Result<KeyState, StoreError>> + Send;

    /// Frees `key` if it holds a record, or a running claim and `even_if_running` is set.
    ///
    /// A run whose claim is freed this way has lost it: it continues, its record is not stored, and
    /// a retry may run alongside it. A claim that is part of a transaction cannot be freed: it is
    /// still running. This is the only method without a token, so a store sends it once. The
    /// runtime does not repeat it either, because a second call could free what came after the
    /// first.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use bytes::Bytes;
    /// # use idempotent_runtime::*;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let (store, lease) = (MemoryStore::new(), Duration::from_secs(30));
    /// # let fingerprint = Fingerprint::from_bytes([2; 16]);
    /// # let attempt = Attempt::new(StoreKey::from_bytes([1; 16]), fingerprint, Token::random());
    /// store.claim(&attempt, lease).await?;
    /// assert_eq!(
    ///     store.forget(attempt.key, false).await?,
    ///     Forgotten::StillRunning { lease_left: None }
    /// );
    /// assert_eq!(store.forget(attempt.key, true).await?, Forgotten::Freed);
    /// # Ok::<_, StoreError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the store could not be asked, or its answer did not arrive: the key may
    /// have been freed, unless the error is [`StoreError::not_sent`].
    fn forget(
        &self,
        key: StoreKey,
        even_if_running: bool,
    ) -> impl Future<Output = Result<Forgotten, StoreError>> + Send;
}

/// What [`Store::claim`] found.
///
/// ```
/// # use std::time::Duration;
/// # use idempotent_runtime::{Attempt, Claim, Fingerprint, MemoryStore, Store as _, StoreKey, Token};
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let (store, lease) = (MemoryStore::new(), Duration::from_secs(30));
/// let (key, fingerprint) = (StoreKey::from_bytes([1; 16]), Fingerprint::from_bytes([2; 16]));
/// let first = Attempt::new(key, fingerprint, Token::random());
/// let second = Attempt::new(key, fingerprint, Token::random());
/// assert!(matches!(store.claim(&first, lease).await?, Claim::Claimed { .. }));
/// assert!(matches!(store.claim(&second, lease).await?, Claim::Running { .. }));
/// # Ok::<_, idempotent_runtime::StoreError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Claim {
    /// The key was absent, or already held by the caller's token: the caller holds it now.
    Claimed {
        /// How long the claim holds unless renewed; `None` if it cannot be orphaned, so there is
        /// nothing to renew.
        lease: Option<Duration>,
    },
    /// Another token holds the key.
    Running {
        /// The fingerprint of the request that holds it; `None` if it is not known yet.
        fingerprint: Option<Fingerprint>,
        /// What is left of its lease; `None` if the claim cannot be orphaned.
        lease_left: Option<Duration>,
    },
    /// The key holds a record.
    Stored {
        /// The fingerprint of the request that stored it.
        fingerprint: Fingerprint,
        /// The record, as passed to [`Store::complete`].
        record: Bytes,
        /// What is left of its ttl.
        expires_in: Duration,
    },
}

/// What [`Store::read`] found.
///
/// ```
/// # use idempotent_runtime::{KeyState, MemoryStore, Store as _, StoreKey};
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let state = MemoryStore::new().read(StoreKey::from_bytes([1; 16])).await?;
/// assert_eq!(state, KeyState::Absent);
/// # Ok::<_, idempotent_runtime::StoreError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyState {
    /// The key is free.
    Absent,
    /// A token holds the key.
    Running {
        /// The fingerprint of the request that holds it; `None` if it is not known yet.
        fingerprint: Option<Fingerprint>,
        /// What is left of its lease; `None` if the claim cannot be orphaned.
        lease_left: Option<Duration>,
    },
    /// The key holds a record.
    Stored {
        /// The fingerprint of the request that stored it.
        fingerprint: Fingerprint,
        /// The record, as passed to [`Store::complete`].
        record: Bytes,
        /// What is left of its ttl.
        expires_in: Duration,
    },
}

/// Whether the caller's token still holds its key.
///
/// ```
/// # use std::time::Duration;
/// # use idempotent_runtime::{Attempt, Fingerprint, Hold, MemoryStore, Store as _, StoreKey, Token};
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let (store, lease) = (MemoryStore::new(), Duration::from_secs(30));
/// let (key, fingerprint) = (StoreKey::from_bytes([1; 16]), Fingerprint::from_bytes([2; 16]));
/// let attempt = Attempt::new(key, fingerprint, Token::random());
/// store.claim(&attempt, lease).await?;
/// assert_eq!(store.renew(&attempt, lease).await?, Hold::Held);
/// store.release(&attempt).await?;
/// assert_eq!(store.renew(&attempt, lease).await?, Hold::Lost);
/// # Ok::<_, idempotent_runtime::StoreError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a lost claim means that someone else may run"]
pub enum Hold {
    /// The token holds its claim, or its record is stored.
    Held,
    /// The token no longer holds the key: its lease lapsed, or someone freed it.
    Lost,
}

/// What [`Store::forget`] did.
///
/// ```
/// # use idempotent_runtime::{Forgotten, MemoryStore, Store as _, StoreKey};
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let forgotten = MemoryStore::new().forget(StoreKey::from_bytes([1; 16]), false).await?;
/// assert_eq!(forgotten, Forgotten::Absent);
/// # Ok::<_, idempotent_runtime::StoreError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a running key may have been left alone"]
pub enum Forgotten {
    /// The key was freed.
    Freed,
    /// The key was free already.
    Absent,
    /// The key is running and was left alone.
    StillRunning {
        /// What is left of its lease; `None` if the claim cannot be orphaned.
        lease_left: Option<Duration>,
    },
}
