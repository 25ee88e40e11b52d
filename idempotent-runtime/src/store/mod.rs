//! Where claims and stored responses live.
//!
//! [`Store`] is the one trait a store implements: five verbs, each atomic. It sees digests and
//! opaque bytes only; timeouts, retries, lease renewal, the record's format and the comparison of
//! fingerprints belong to the runtime.

use std::{borrow::Cow, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::digest::{Fingerprint, StoreKey};

#[cfg(feature = "memory")]
pub(crate) mod memory;
#[cfg(any(feature = "redis", feature = "postgres", test))]
pub(crate) mod poll;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(not(feature = "memory"))]
pub(crate) mod unconfigured;

/// A place that holds claims and stored responses.
///
/// Each verb is one atomic step, judged by the store's own clock, and safe to repeat with the same
/// [`Token`]: the runtime repeats a call whose answer it did not get.
///
/// A key is in one of three states:
///
/// | state | enters by | leaves by |
/// |---|---|---|
/// | absent | nothing, expiry, a lapsed lease, [`release`](Store::release) | [`claim`](Store::claim) |
/// | running, held by one token | [`claim`](Store::claim) | [`complete`](Store::complete), [`release`](Store::release), a lapsed lease |
/// | stored, until its ttl passes | [`complete`](Store::complete) | expiry |
///
/// Expired is absent: a verb never shows a claim whose lease has lapsed or a record whose ttl has
/// passed. A store never evicts a running claim.
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
/// use idempotent_runtime::{Claim, Fingerprint, Store, StoreError, StoreKey, Token};
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
///     async fn claim(
///         &self,
///         key: StoreKey,
///         fingerprint: Fingerprint,
///         token: Token,
///         lease: Duration,
///     ) -> Result<Claim, StoreError> {
///         let now = Instant::now();
///         let new = Entry { fingerprint, token, record: None, expires: now + lease };
///         let mut entries = self.entries(key);
///         let entry = entries.entry(key).or_insert(new);
///         let Entry { fingerprint, expires, .. } = *entry;
///         Ok(match &entry.record {
///             Some(record) => Claim::Stored { fingerprint, record: record.clone() },
///             None if entry.token == token => Claim::Claimed { lease: Some(lease) },
///             None => Claim::Running { fingerprint, lease_left: Some(expires.duration_since(now)) },
///         })
///     }
///
///     async fn renew(
///         &self,
///         key: StoreKey,
///         token: Token,
///         lease: Duration,
///     ) -> Result<bool, StoreError> {
///         let mut entries = self.entries(key);
///         let held = entries.get_mut(&key).filter(|entry| entry.is_held_by(token));
///         Ok(held.map(|entry| entry.expires = Instant::now() + lease).is_some())
///     }
///
///     async fn complete(
///         &self,
///         key: StoreKey,
///         token: Token,
///         record: Bytes,
///         ttl: Duration,
///     ) -> Result<bool, StoreError> {
///         let mut entries = self.entries(key);
///         let Some(entry) = entries.get_mut(&key).filter(|entry| entry.token == token) else {
///             return Ok(false);
///         };
///         if entry.record.is_none() {
///             entry.record = Some(record);
///             entry.expires = Instant::now() + ttl;
///         }
///         Ok(true)
///     }
///
///     async fn release(&self, key: StoreKey, token: Token) -> Result<(), StoreError> {
///         let mut entries = self.entries(key);
///         if entries.get(&key).is_some_and(|entry| entry.is_held_by(token)) {
///             entries.remove(&key);
///         }
///         Ok(())
///     }
///
///     async fn wait(&self, _key: StoreKey, _attempt: u32, at_most: Duration) {
///         // Coming back early is allowed: the runtime looks again.
///         tokio::time::sleep(at_most.min(Duration::from_millis(20))).await;
///     }
/// }
///
/// # #[cfg(feature = "testing")]
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// idempotent_runtime::testing::conformance(MapStore::default()).await;
/// # });
/// ```
pub trait Store: Send + Sync + 'static {
    /// Claims `key` if it is absent, otherwise says what it holds.
    ///
    /// Of any number of concurrent calls on an absent key, exactly one gets
    /// [`Claim::Claimed`]. A claim that `token` already holds is `Claimed` again. The claim holds
    /// for `lease`, except in a store whose claims cannot be orphaned, which says so with
    /// `lease: None`.
    ///
    /// # Errors
    ///
    /// The store could not be asked, or its answer did not arrive. The claim may have been made.
    fn claim(
        &self,
        key: StoreKey,
        fingerprint: Fingerprint,
        token: Token,
        lease: Duration,
    ) -> impl Future<Output = Result<Claim, StoreError>> + Send;

    /// Holds `key` for another `lease`, counted from now.
    ///
    /// `true`: held. `false`: `token` no longer holds it. Never touches a record or the claim of
    /// another token.
    ///
    /// # Errors
    ///
    /// The store could not be asked, or its answer did not arrive.
    fn renew(
        &self,
        key: StoreKey,
        token: Token,
        lease: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Replaces the claim of `token` by `record`, for `ttl`.
    ///
    /// `true`: stored, or already stored by this token. `false`: `token` no longer holds `key`, and
    /// nothing changed.
    ///
    /// # Errors
    ///
    /// [`StoreError::too_large`] where the record can never fit; the claim is untouched. Any other
    /// error means that the outcome is unknown, and the call is repeated.
    fn complete(
        &self,
        key: StoreKey,
        token: Token,
        record: Bytes,
        ttl: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Frees `key` if `token` holds a running claim on it, otherwise does nothing.
    ///
    /// # Errors
    ///
    /// The store could not be asked, or its answer did not arrive.
    fn release(
        &self,
        key: StoreKey,
        token: Token,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns when `key` may have stopped running.
    ///
    /// It may return early, never later than `at_most`, and does not miss an end that came before
    /// the call. `attempt` counts this waiter's calls from 0, for a store that polls with backoff.
    fn wait(
        &self,
        key: StoreKey,
        attempt: u32,
        at_most: Duration,
    ) -> impl Future<Output = ()> + Send;
}

/// What [`Store::claim`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Claim {
    /// The key was absent, or already held by the caller's token: the caller holds it now.
    Claimed {
        /// How long the claim holds unless renewed; `None` where it cannot be orphaned.
        lease: Option<Duration>,
    },
    /// Another token holds the key.
    Running {
        /// The fingerprint of the request that holds it.
        fingerprint: Fingerprint,
        /// What is left of its lease; `None` where the claim cannot be orphaned.
        lease_left: Option<Duration>,
    },
    /// The key holds a record.
    Stored {
        /// The fingerprint of the request that stored it.
        fingerprint: Fingerprint,
        /// The record, as it was given to [`Store::complete`].
        record: Bytes,
    },
}

/// The fencing token of one claim: 128 random bits, compared for equality.
///
/// It proves who holds a claim, so that a worker which lost its claim overwrites nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; 16]);

impl Token {
    /// A fresh random token.
    #[must_use]
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().into_bytes())
    }

    /// The token with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The token's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:032x})", u128::from_be_bytes(self.0))
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a store could not do what it was asked.
///
/// The cause is its [`source`](std::error::Error::source).
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    source: Option<BoxError>,
}

#[derive(Debug, PartialEq, Eq)]
enum StoreErrorKind {
    Failed(Cow<'static, str>),
    TimedOut,
    TooLarge,
    #[cfg(not(feature = "memory"))]
    Unconfigured,
}

impl StoreError {
    /// The store failed because of `source`.
    pub fn new(source: impl Into<BoxError>) -> Self {
        Self::described("the idempotency store failed").because(source)
    }

    /// The record can never fit into this store.
    #[must_use]
    pub fn too_large() -> Self {
        Self { kind: StoreErrorKind::TooLarge, source: None }
    }

    /// The store failed, and `message` says how, without its source.
    pub(crate) fn described(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: StoreErrorKind::Failed(message.into()), source: None }
    }

    /// The same error, caused by `source`.
    pub(crate) fn because(self, source: impl Into<BoxError>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// The store did not answer in time.
    pub(crate) fn timed_out() -> Self {
        Self { kind: StoreErrorKind::TimedOut, source: None }
    }

    /// There is no store.
    #[cfg(not(feature = "memory"))]
    pub(crate) fn unconfigured() -> Self {
        Self { kind: StoreErrorKind::Unconfigured, source: None }
    }

    /// Whether the log says so already: a fault of the program is one error, not one per request.
    pub(crate) fn is_logged_once(&self) -> bool {
        match self.kind {
            #[cfg(not(feature = "memory"))]
            StoreErrorKind::Unconfigured => true,
            StoreErrorKind::Failed(_) | StoreErrorKind::TimedOut | StoreErrorKind::TooLarge => {
                false
            }
        }
    }

    pub(crate) fn is_too_large(&self) -> bool {
        self.kind == StoreErrorKind::TooLarge
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            StoreErrorKind::Failed(message) => message,
            StoreErrorKind::TimedOut => {
                "the idempotency store did not answer within `store_timeout`"
            }
            StoreErrorKind::TooLarge => "the record is larger than the idempotency store",
            #[cfg(not(feature = "memory"))]
            StoreErrorKind::Unconfigured => {
                "`#[idempotent]` has no store: put an `Idempotency` layer around the router, or \
                 enable the feature `memory` of `idempotent-axum`"
            }
        })
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// A shared handle is the store it points to.
impl<S: Store> Store for Arc<S> {
    fn claim(
        &self,
        key: StoreKey,
        fingerprint: Fingerprint,
        token: Token,
        lease: Duration,
    ) -> impl Future<Output = Result<Claim, StoreError>> + Send {
        S::claim(self, key, fingerprint, token, lease)
    }

    fn renew(
        &self,
        key: StoreKey,
        token: Token,
        lease: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        S::renew(self, key, token, lease)
    }

    fn complete(
        &self,
        key: StoreKey,
        token: Token,
        record: Bytes,
        ttl: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        S::complete(self, key, token, record, ttl)
    }

    fn release(
        &self,
        key: StoreKey,
        token: Token,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        S::release(self, key, token)
    }

    fn wait(
        &self,
        key: StoreKey,
        attempt: u32,
        at_most: Duration,
    ) -> impl Future<Output = ()> + Send {
        S::wait(self, key, attempt, at_most)
    }
}

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The `dyn`-safe twin of [`Store`]: a request holds its store behind this.
pub(crate) trait ErasedStore: Send + Sync {
    fn claim(
        &self,
        key: StoreKey,
        fingerprint: Fingerprint,
        token: Token,
        lease: Duration,
    ) -> BoxFuture<'_, Result<Claim, StoreError>>;
    fn renew(
        &self,
        key: StoreKey,
        token: Token,
        lease: Duration,
    ) -> BoxFuture<'_, Result<bool, StoreError>>;
    fn complete(
        &self,
        key: StoreKey,
        token: Token,
        record: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<bool, StoreError>>;
    fn release(&self, key: StoreKey, token: Token) -> BoxFuture<'_, Result<(), StoreError>>;
    fn wait(&self, key: StoreKey, attempt: u32, at_most: Duration) -> BoxFuture<'_, ()>;
}

impl<S: Store> ErasedStore for S {
    fn claim(
        &self,
        key: StoreKey,
        fingerprint: Fingerprint,
        token: Token,
        lease: Duration,
    ) -> BoxFuture<'_, Result<Claim, StoreError>> {
        Box::pin(Store::claim(self, key, fingerprint, token, lease))
    }

    fn renew(
        &self,
        key: StoreKey,
        token: Token,
        lease: Duration,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(Store::renew(self, key, token, lease))
    }

    fn complete(
        &self,
        key: StoreKey,
        token: Token,
        record: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(Store::complete(self, key, token, record, ttl))
    }

    fn release(&self, key: StoreKey, token: Token) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(Store::release(self, key, token))
    }

    fn wait(&self, key: StoreKey, attempt: u32, at_most: Duration) -> BoxFuture<'_, ()> {
        Box::pin(Store::wait(self, key, attempt, at_most))
    }
}
