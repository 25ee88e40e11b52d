//! [`MemoryStore`]: one process, nothing to install.
//!
//! Running claims live in a sharded map of their own, beside the cache of stored responses, so that
//! the cache's eviction can never reach a claim. A key moves from the map to the cache: a record is
//! inserted before its claim is removed, and [`claim`](Store::claim) looks under the shard's lock
//! into the map first, so no moment shows a completed key as absent.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use moka::{notification::RemovalCause, policy::EvictionPolicy, sync::Cache};
use tokio::sync::Notify;

use super::{Claim, Store, StoreError, Token};
use crate::digest::{Fingerprint, StoreKey};

const DEFAULT_MAX_BYTES: u64 = 64 << 20;
const MIN_MAX_BYTES: u64 = 64 << 10;
/// Counted per record beside its bytes: the cache's own node, key, timer and list links.
const ENTRY_OVERHEAD: u64 = 320;
const SHARDS: usize = 64;

/// A store in the memory of this process.
///
/// Its claims cannot be orphaned, because they end with the process that made them. Stored
/// responses take at most [`max_bytes`](MemoryStoreBuilder::max_bytes); past that the least
/// recently used ones are evicted, counted in [`evicted`](MemoryStore::evicted) and logged at
/// `warn`. A clone is another handle to the same store.
///
/// ```
/// use idempotent_runtime::MemoryStore;
///
/// let store = MemoryStore::builder().max_bytes(16 << 20).build();
/// assert_eq!(store.evicted(), 0);
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    inner: Arc<Inner>,
}

struct Inner {
    running: Box<[Mutex<HashMap<StoreKey, Running>>]>,
    stored: Cache<StoreKey, Stored>,
    max_bytes: u64,
    /// Bytes inserted since the cache last did its housekeeping.
    unswept: AtomicU64,
    evictions: Arc<Evictions>,
    janitor: AtomicBool,
}

struct Running {
    fingerprint: Fingerprint,
    token: Token,
    /// Made by the first waiter: most claims never have one.
    ended: Option<Arc<Notify>>,
}

#[derive(Clone)]
struct Stored {
    fingerprint: Fingerprint,
    token: Token,
    weight: u64,
    record: Slot,
    ttl: Duration,
    expires: Instant,
}

/// A record that is freed when it leaves the cache.
///
/// The cache frees a removed value only when no thread can be reading it any more, and many at
/// once: with large records that is several times `max_bytes`.
#[derive(Clone)]
struct Slot(Arc<Mutex<Option<Bytes>>>);

impl Slot {
    fn new(record: Bytes) -> Self {
        Self(Arc::new(Mutex::new(Some(record))))
    }

    /// The record, or `None` where it has left the cache since the slot was read.
    fn get(&self) -> Option<Bytes> {
        self.lock().clone()
    }

    fn free(&self) {
        self.lock().take();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Builds a [`MemoryStore`].
#[derive(Debug, Clone)]
#[must_use = "call `build`"]
pub struct MemoryStoreBuilder {
    max_bytes: u64,
}

impl MemoryStoreBuilder {
    /// How many bytes the stored responses may take, bookkeeping included. Default: 64 MiB; less
    /// than 64 KiB counts as 64 KiB.
    pub fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes.max(MIN_MAX_BYTES);
        self
    }

    /// The store.
    #[must_use]
    pub fn build(self) -> MemoryStore {
        let evictions = Arc::new(Evictions::default());
        let listener = Arc::clone(&evictions);
        let stored = Cache::builder()
            .max_capacity(self.max_bytes)
            .weigher(|_, stored: &Stored| u32::try_from(stored.weight).unwrap_or(u32::MAX))
            // The default policy may refuse the newest entry: a response nobody could replay.
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(PerRecord)
            .eviction_listener(move |_, stored: Stored, cause| {
                stored.record.free();
                if cause == RemovalCause::Size && stored.expires > Instant::now() {
                    listener.add_one();
                }
            })
            .build();
        MemoryStore {
            inner: Arc::new(Inner {
                running: (0..SHARDS).map(|_| Mutex::default()).collect(),
                stored,
                max_bytes: self.max_bytes,
                unswept: AtomicU64::new(0),
                evictions,
                janitor: AtomicBool::new(false),
            }),
        }
    }
}

impl MemoryStore {
    /// A store with the default limit.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A store with a limit of its own.
    pub fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder { max_bytes: DEFAULT_MAX_BYTES }
    }

    /// How many stored responses were evicted before their ttl passed.
    ///
    /// A retry of such a request runs its handler again: where this is not 0, raise
    /// [`max_bytes`](MemoryStoreBuilder::max_bytes) or move to a shared store.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.inner.evictions.count.load(Ordering::Relaxed)
    }

    /// How many bytes the stored responses take now, bookkeeping included.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.inner.sweep();
        self.inner.stored.weighted_size()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("max_bytes", &self.inner.max_bytes)
            .field("evicted", &self.evicted())
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn shard(&self, key: StoreKey) -> MutexGuard<'_, HashMap<StoreKey, Running>> {
        let shard = usize::from(key.as_bytes()[0]) % SHARDS;
        // Nothing in a critical section panics half way through a change.
        self.running[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the claim of `token` on `key`, and wakes whoever waits for it.
    fn end(&self, key: StoreKey, token: Token) {
        let mut shard = self.shard(key);
        if shard.get(&key).is_some_and(|running| running.token == token) {
            let ended = shard.remove(&key).and_then(|running| running.ended);
            drop(shard);
            if let Some(ended) = ended {
                ended.notify_waiters();
            }
        }
    }

    fn insert(&self, key: StoreKey, stored: Stored) {
        let weight = stored.weight;
        self.stored.insert(key, stored);
        // The cache buffers its writes; large records must not pile up in that buffer.
        if self.unswept.fetch_add(weight, Ordering::Relaxed) + weight > self.max_bytes / 32 {
            self.unswept.store(0, Ordering::Relaxed);
            self.sweep();
        }
    }

    /// Has the cache do its housekeeping: take in what was inserted, let go of what is too much.
    fn sweep(&self) {
        let mut size = u64::MAX;
        loop {
            self.stored.run_pending_tasks();
            // One turn evicts a bounded number of records: many small ones may have to go for a
            // large one.
            let now = self.stored.weighted_size();
            if now <= self.max_bytes || now >= size {
                return;
            }
            size = now;
        }
    }

    /// Frees expired records even when no request comes: a task that lives as long as the store.
    fn sweep_in_background(self: &Arc<Self>) {
        if self.janitor.load(Ordering::Relaxed) || self.janitor.swap(true, Ordering::AcqRel) {
            return;
        }
        let duty = JanitorDuty(Arc::downgrade(self));
        // Without a runtime there is nobody to sweep, and the next insert tries again.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let Some(inner) = duty.0.upgrade() else { return };
                inner.sweep();
            }
        });
    }
}

/// Held by the janitor's task: when that is gone with its runtime, the next insert starts another.
struct JanitorDuty(Weak<Inner>);

impl Drop for JanitorDuty {
    fn drop(&mut self) {
        if let Some(inner) = self.0.upgrade() {
            inner.janitor.store(false, Ordering::Release);
        }
    }
}

impl Store for MemoryStore {
    async fn claim(
        &self,
        key: StoreKey,
        fingerprint: Fingerprint,
        token: Token,
        _lease: Duration,
    ) -> Result<Claim, StoreError> {
        let mut shard = self.inner.shard(key);
        if let Some(running) = shard.get(&key) {
            return Ok(if running.token == token {
                Claim::Claimed { lease: None }
            } else {
                Claim::Running { fingerprint: running.fingerprint, lease_left: None }
            });
        }
        if let Some(stored) = self.inner.stored.get(&key)
            && let Some(record) = stored.record.get()
        {
            return Ok(Claim::Stored { fingerprint: stored.fingerprint, record });
        }
        shard.insert(key, Running { fingerprint, token, ended: None });
        Ok(Claim::Claimed { lease: None })
    }

    async fn renew(
        &self,
        key: StoreKey,
        token: Token,
        _lease: Duration,
    ) -> Result<bool, StoreError> {
        Ok(self.inner.shard(key).get(&key).is_some_and(|running| running.token == token))
    }

    async fn complete(
        &self,
        key: StoreKey,
        token: Token,
        record: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let held =
            self.inner.shard(key).get(&key).map(|running| (running.token, running.fingerprint));
        let Some((_, fingerprint)) = held.filter(|(holder, _)| *holder == token) else {
            return Ok(self.inner.stored.get(&key).is_some_and(|stored| stored.token == token));
        };
        let weight = record.len() as u64 + ENTRY_OVERHEAD;
        if weight > self.inner.max_bytes {
            return Err(StoreError::too_large());
        }
        let (record, expires) = (Slot::new(record), Instant::now() + ttl);
        let stored = Stored { fingerprint, token, weight, record, ttl, expires };
        // Only the holder ends its claim, so it is still there: first the record, then its end.
        self.inner.insert(key, stored);
        self.inner.end(key, token);
        self.inner.sweep_in_background();
        Ok(true)
    }

    async fn release(&self, key: StoreKey, token: Token) -> Result<(), StoreError> {
        self.inner.end(key, token);
        Ok(())
    }

    async fn wait(&self, key: StoreKey, _attempt: u32, at_most: Duration) {
        let ended = {
            let mut shard = self.inner.shard(key);
            let Some(running) = shard.get_mut(&key) else { return };
            let ended = running.ended.get_or_insert_with(Arc::default);
            // Made under the lock, so an end after this line wakes it, polled or not.
            Arc::clone(ended).notified_owned()
        };
        // An elapsed wait and an end are the same to the caller: it looks again.
        let _ = tokio::time::timeout(at_most, ended).await;
    }
}

/// Every record expires by its own ttl, counted from when it was stored; reads do not extend it.
struct PerRecord;

impl moka::Expiry<StoreKey, Stored> for PerRecord {
    fn expire_after_create(&self, _: &StoreKey, stored: &Stored, _: Instant) -> Option<Duration> {
        Some(stored.ttl)
    }

    fn expire_after_update(
        &self,
        _: &StoreKey,
        stored: &Stored,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(stored.ttl)
    }
}

/// Counts records evicted before their ttl, and says so in the log at most every ten seconds.
#[derive(Default)]
struct Evictions {
    count: AtomicU64,
    last_logged: Mutex<Option<Instant>>,
}

impl Evictions {
    const LOG_EVERY: Duration = Duration::from_secs(10);

    fn add_one(&self) {
        let evicted = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let now = Instant::now();
        let mut last = self.last_logged.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| now.duration_since(last) >= Self::LOG_EVERY) {
            *last = Some(now);
            drop(last);
            tracing::warn!(
                evicted,
                "stored responses are evicted before their ttl: raise `MemoryStore`'s `max_bytes`, \
                 or their requests run again when retried"
            );
        }
    }
}
