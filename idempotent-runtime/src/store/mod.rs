//! Where claims and stored responses live.
//!
//! [`Store`] is the one trait a store implements: seven verbs, each atomic. It sees digests and
//! opaque bytes only; time limits, second tries, renewal, the record's format and the comparison
//! of fingerprints belong to the runtime.

use std::{future::Future, time::Duration};

use bytes::Bytes;

mod attempt;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod cause;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod connect_error;
pub(crate) mod digest;
mod erased;
mod error;
mod handle;
#[cfg(feature = "memory")]
pub(crate) mod memory;
mod poll;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(not(feature = "memory"))]
pub(crate) mod unconfigured;

#[cfg(any(feature = "postgres", feature = "redis"))]
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
/// No store has transactions.
#[cfg(not(feature = "postgres"))]
#[derive(Clone)]
pub(crate) enum Slot {}

#[cfg(feature = "memory")]
pub use self::memory::{MemoryStore, MemoryStoreBuilder};
#[cfg(feature = "postgres")]
pub use self::postgres::{PostgresStore, PostgresStoreBuilder, PurgeTask};
#[cfg(feature = "redis")]
pub use self::redis::{RedisConnection, RedisStore, RedisStoreBuilder};
#[cfg(not(feature = "memory"))]
pub(crate) use self::unconfigured::Unconfigured;

/// Names the type that a last parameter was extracted as: [`TypeId::of`](std::any::TypeId::of)
/// itself, which takes half the room of what it gives.
pub(crate) type Extracted = fn() -> std::any::TypeId;

/// A place that holds claims and stored responses.
///
/// Each verb is one atomic step, judged by the store's own clock, and safe to repeat with the same
/// [`Token`]: the runtime repeats a call whose answer it did not get, but for
/// [`forget`](Store::forget), which has no token.
///
/// A key is in one of three states:
///
/// | state | enters by | leaves by |
/// |---|---|---|
/// | absent | nothing, expiry, a lapsed lease, [`release`](Store::release), [`forget`](Store::forget) | [`claim`](Store::claim) |
/// | running, held by one token | [`claim`](Store::claim) | [`complete`](Store::complete), [`release`](Store::release), a lapsed lease, [`forget`](Store::forget) if asked to |
/// | stored, until its ttl passes | [`complete`](Store::complete) | expiry, [`forget`](Store::forget) |
///
/// Expired is absent: no verb shows a claim whose lease has lapsed or a record whose ttl has
/// passed. A store never evicts a running claim.
///
/// A store that cannot tell waiters when a claim ends polls, with [`Pollers`].
///
/// # A whole store
///
/// One map behind one lock, for one process: atomic because of the lock, fenced because every verb
/// compares the token. [`testing::conformance`](crate::testing::conformance) (feature `testing`)
/// checks it, and yours.
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
    /// Claims the attempt's key if it is absent, otherwise says what it holds.
    ///
    /// Of any number of concurrent calls on an absent key, exactly one gets
    /// [`Claim::Claimed`]. A claim that the attempt's token already holds is `Claimed` again. The
    /// claim holds for `lease`, except in a store whose claims cannot be orphaned, which says so
    /// with `lease: None`.
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

    /// Holds the claim for another `lease`, counted from now.
    ///
    /// Never touches a record or the claim of another token.
    ///
    /// # Errors
    ///
    /// Returns an error if the store could not be asked, or its answer did not arrive.
    fn renew(
        &self,
        attempt: &Attempt,
        lease: Duration,
    ) -> impl Future<Output = Result<Hold, StoreError>> + Send;

    /// Replaces the attempt's claim by `record`, for `ttl`.
    ///
    /// [`Hold::Held`]: stored, or already stored by this token. [`Hold::Lost`]: the token no longer
    /// holds the key, and nothing changed.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::too_large`] if the record can never fit; the claim is untouched. Any
    /// other error means that the outcome is unknown, and the call is repeated.
    fn complete(
        &self,
        attempt: &Attempt,
        record: Bytes,
        ttl: Duration,
    ) -> impl Future<Output = Result<Hold, StoreError>> + Send;

    /// Frees the key if the attempt's token holds a running claim on it, otherwise does nothing.
    ///
    /// # Errors
    ///
    /// Returns an error if the store could not be asked, or its answer did not arrive.
    fn release(&self, attempt: &Attempt) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns when `key` may have stopped running.
    ///
    /// It may return early (the runtime paces itself), never later than `at_most`, and does not
    /// miss an end that came before the call.
    fn wait(&self, key: StoreKey, at_most: Duration) -> impl Future<Output = ()> + Send;

    /// What `key` holds. Changes nothing.
    ///
    /// # Errors
    ///
    /// Returns an error if the store could not be asked, or its answer did not arrive.
    fn read(&self, key: StoreKey) -> impl Future<Output = Result<KeyState, StoreError>> + Send;

    /// Frees `key` if it holds a record, or a running claim and `even_if_running` is set.
    ///
    /// A run whose claim is freed so has lost it: it goes on, its record is not stored, and a
    /// retry may run beside it. A claim that is part of a transaction cannot be freed: it is still
    /// running. The one verb without a token: a store sends it once. The runtime does not repeat it
    /// either, because a second call could free what came after the first.
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
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Claim {
    /// The key was absent, or already held by the caller's token: the caller holds it now.
    Claimed {
        /// How long the claim holds unless renewed; `None` if it cannot be orphaned: there is
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
        /// The record, as it was given to [`Store::complete`].
        record: Bytes,
        /// What is left of its ttl.
        expires_in: Duration,
    },
}

/// What [`Store::read`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyState {
    /// The key holds nothing.
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
        /// The record, as it was given to [`Store::complete`].
        record: Bytes,
        /// What is left of its ttl.
        expires_in: Duration,
    },
}

/// Whether the caller's token still holds its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a lost claim means that somebody else may run"]
pub enum Hold {
    /// The token holds its claim, or its record is stored.
    Held,
    /// The token no longer holds the key: its lease lapsed, or somebody freed it.
    Lost,
}

/// What [`Store::forget`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a running key may have been left alone"]
pub enum Forgotten {
    /// The key was freed.
    Freed,
    /// The key held nothing.
    Absent,
    /// The key is running and was left alone.
    StillRunning {
        /// What is left of its lease; `None` if the claim cannot be orphaned.
        lease_left: Option<Duration>,
    },
}
