//! [`MemoryStore`]: one process, nothing to install.
//!
//! A key, running or stored, is one entry in one shard of a map, and each verb is one critical
//! section on that shard. Stored keys also stand in queues, one for each ttl: within a queue the
//! order of storing is the order of expiry, so expiry and eviction both take from the front, and no
//! call's cost grows with the number of keys.
//!
//! Not a general cache: those take about 700 bytes per entry, free what they evict later, and may
//! refuse the newest entry, which here is a response that nobody could replay.

use std::{
    collections::{BTreeMap, HashMap, VecDeque, hash_map},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{Claim, Store, StoreError, Token};
use crate::digest::{Fingerprint, StoreKey};

const DEFAULT_MAX_BYTES: u64 = 64 << 20;
const MIN_MAX_BYTES: u64 = 64 << 10;
/// Counted per record beside its bytes: entry, place in the queue, and the allocator's share.
/// `benches/run memory` measures it.
const ENTRY_OVERHEAD: u64 = 320;
/// One byte in so many is what the allocator loses between records that come and go, at a flood's
/// peak; measured by the same.
const FRAGMENTATION: u64 = 8;
const SHARDS: usize = 64;
/// Keys are digests, but of what callers choose: the hash is seeded, so that nobody can pick keys
/// that meet in one place of the map.
#[cfg(not(test))]
type Hashing = foldhash::quality::RandomState;
#[cfg(test)]
type Hashing = tests::Counting;
/// The number of the oldest record where there is none.
const NONE: u64 = u64::MAX;

/// A store in the memory of this process.
///
/// Its claims cannot be orphaned, because they end with the process that made them. Stored
/// responses take at most [`max_bytes`](MemoryStoreBuilder::max_bytes); past that the oldest ones
/// are evicted, counted in [`evicted`](MemoryStore::evicted) and logged at `warn`. A clone is
/// another handle to the same store.
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
        MemoryStore {
            inner: Arc::new(Inner {
                shards: (0..SHARDS).map(|_| Shard::new()).collect(),
                max_bytes: self.max_bytes,
                bytes: AtomicU64::new(0),
                next_number: AtomicU64::new(0),
                evictions: Evictions::default(),
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
        self.inner.bytes.load(Ordering::Relaxed)
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
            .field("stored_bytes", &self.stored_bytes())
            .field("evicted", &self.evicted())
            .finish_non_exhaustive()
    }
}

struct Inner {
    shards: Box<[Shard]>,
    max_bytes: u64,
    /// Of all records, stored or about to be.
    bytes: AtomicU64,
    /// Numbers the records in the order in which they are stored.
    next_number: AtomicU64,
    evictions: Evictions,
    janitor: AtomicBool,
}

struct Shard {
    keys: Mutex<Keys>,
    /// The number of the oldest record, or [`NONE`]: to find the oldest of all without a lock.
    oldest: AtomicU64,
}

/// The keys of one shard.
#[derive(Default)]
struct Keys {
    entries: HashMap<StoreKey, Entry, Hashing>,
    /// The stored keys by ttl, oldest first, with their numbers.
    queues: BTreeMap<Duration, VecDeque<(u64, StoreKey)>>,
}

struct Entry {
    fingerprint: Fingerprint,
    token: Token,
    state: State,
}

enum State {
    Running {
        /// Made by the first waiter: most claims never have one.
        ended: Option<Arc<Notify>>,
    },
    Stored {
        record: Bytes,
        expires: Instant,
    },
}

impl Entry {
    fn is_held_by(&self, token: Token) -> bool {
        self.token == token && matches!(self.state, State::Running { .. })
    }

    fn has_expired(&self) -> bool {
        matches!(self.state, State::Stored { expires, .. } if expires <= Instant::now())
    }

    /// What a claim by `token` finds here.
    fn read_by(&self, token: Token) -> Claim {
        let fingerprint = self.fingerprint;
        match &self.state {
            State::Stored { record, .. } => Claim::Stored { fingerprint, record: record.clone() },
            State::Running { .. } if self.token == token => Claim::Claimed { lease: None },
            State::Running { .. } => Claim::Running { fingerprint, lease_left: None },
        }
    }

    fn weight(&self) -> u64 {
        match &self.state {
            State::Running { .. } => 0,
            State::Stored { record, .. } => weight(record),
        }
    }
}

fn weight(record: &Bytes) -> u64 {
    let bytes = record.len() as u64;
    bytes + bytes / FRAGMENTATION + ENTRY_OVERHEAD
}

impl Keys {
    /// The entry of `key`, unless it has expired.
    fn get(&mut self, key: StoreKey) -> Option<&mut Entry> {
        self.entries.get_mut(&key).filter(|entry| !entry.has_expired())
    }

    /// The queue with the oldest record, and that record's number.
    fn oldest(&self) -> Option<(Duration, u64)> {
        let fronts = self.queues.iter().filter_map(|(ttl, queue)| Some((*ttl, queue.front()?.0)));
        fronts.min_by_key(|(_, number)| *number)
    }

    /// Takes the oldest record of the queue of `ttl`.
    fn pop(&mut self, ttl: Duration) -> Option<Entry> {
        let queue = self.queues.get_mut(&ttl)?;
        let (_, key) = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&ttl);
        }
        self.entries.remove(&key)
    }

    /// Takes one record that has expired.
    fn pop_expired(&mut self) -> Option<Entry> {
        let is_expired = |key| self.entries.get(key).is_some_and(Entry::has_expired);
        let fronts = self.queues.iter().filter_map(|(ttl, queue)| Some((*ttl, &queue.front()?.1)));
        let (ttl, _) = { fronts }.find(|(_, key)| is_expired(key))?;
        self.pop(ttl)
    }

    /// Gives back what a flood has left behind.
    fn shrink(&mut self) {
        let spare = |capacity: usize, length: usize| capacity > 4 * length + 64;
        if spare(self.entries.capacity(), self.entries.len()) {
            self.entries.shrink_to(2 * self.entries.len());
        }
        for queue in self.queues.values_mut() {
            if spare(queue.capacity(), queue.len()) {
                queue.shrink_to(2 * queue.len());
            }
        }
    }
}

impl Shard {
    fn new() -> Self {
        Self { keys: Mutex::default(), oldest: AtomicU64::new(NONE) }
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        // Nothing in a critical section panics half way through a change.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish_oldest(&self, keys: &Keys) {
        let oldest = keys.oldest().map_or(NONE, |(_, number)| number);
        self.oldest.store(oldest, Ordering::Relaxed);
    }
}

impl Inner {
    fn shard(&self, key: StoreKey) -> &Shard {
        &self.shards[usize::from(key.as_bytes()[0]) % SHARDS]
    }

    /// Makes room for `weight` bytes, before they are there: the newest is never the one to go.
    fn reserve(&self, weight: u64) {
        let fits = |bytes| Some(bytes + weight).filter(|bytes| *bytes <= self.max_bytes);
        while self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            if !self.evict_oldest() {
                // The rest is room that others have made and not taken yet.
                std::thread::yield_now();
            }
        }
    }

    /// Frees `entry`, then the room it took: nobody may fill that while the bytes are still there.
    fn free(&self, entry: Entry) {
        let weight = entry.weight();
        drop(entry);
        self.give_back(weight);
    }

    fn give_back(&self, weight: u64) {
        self.bytes.fetch_sub(weight, Ordering::Relaxed);
    }

    /// Evicts the oldest record of all; `false` where there is none.
    fn evict_oldest(&self) -> bool {
        let by_age = |shard: &&Shard| shard.oldest.load(Ordering::Relaxed);
        let Some(shard) = self.shards.iter().min_by_key(by_age) else { return false };
        if by_age(&shard) == NONE {
            return false;
        }
        let mut keys = shard.lock();
        let oldest = keys.oldest().and_then(|(ttl, _)| keys.pop(ttl));
        shard.publish_oldest(&keys);
        drop(keys);
        if let Some(entry) = oldest {
            let early = !entry.has_expired();
            self.free(entry);
            if early {
                self.evictions.add_one();
            }
        }
        true
    }

    /// Frees the records of `shard` that have expired.
    fn expire(&self, shard: &Shard, keys: &mut Keys) {
        while let Some(entry) = keys.pop_expired() {
            self.free(entry);
        }
        shard.publish_oldest(keys);
    }

    /// Frees expired records even when no request comes: a task that lives as long as the store.
    fn sweep_in_background(self: &Arc<Self>) {
        if self.janitor.load(Ordering::Relaxed) || self.janitor.swap(true, Ordering::AcqRel) {
            return;
        }
        let duty = JanitorDuty(Arc::downgrade(self));
        // Without a runtime there is nobody to sweep, and the next record tries again.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let Some(inner) = duty.0.upgrade() else { return };
                for shard in &inner.shards {
                    let mut keys = shard.lock();
                    inner.expire(shard, &mut keys);
                    keys.shrink();
                }
            }
        });
    }
}

/// Held by the janitor's task: when that is gone with its runtime, the next record starts another.
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
        let shard = self.inner.shard(key);
        let mut keys = shard.lock();
        let claim = Entry { fingerprint, token, state: State::Running { ended: None } };
        match keys.entries.entry(key) {
            hash_map::Entry::Vacant(absent) => {
                absent.insert(claim);
            }
            hash_map::Entry::Occupied(found) if !found.get().has_expired() => {
                return Ok(found.get().read_by(token));
            }
            hash_map::Entry::Occupied(_) => {
                // Its queue must forget the record before the key is anything else.
                self.inner.expire(shard, &mut keys);
                keys.entries.insert(key, claim);
            }
        }
        Ok(Claim::Claimed { lease: None })
    }

    async fn renew(
        &self,
        key: StoreKey,
        token: Token,
        _lease: Duration,
    ) -> Result<bool, StoreError> {
        let mut keys = self.inner.shard(key).lock();
        Ok(keys.get(key).is_some_and(|entry| entry.is_held_by(token)))
    }

    async fn complete(
        &self,
        key: StoreKey,
        token: Token,
        record: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let inner = &self.inner;
        let weight = weight(&record);
        if weight > inner.max_bytes {
            return Err(StoreError::too_large());
        }
        inner.reserve(weight);
        let shard = inner.shard(key);
        let mut keys = shard.lock();
        let Some(entry) = keys.get(key).filter(|entry| entry.token == token) else {
            drop(keys);
            inner.give_back(weight);
            return Ok(false);
        };
        let State::Running { ended } = &mut entry.state else {
            drop(keys);
            inner.give_back(weight);
            return Ok(true);
        };
        let ended = ended.take();
        entry.state = State::Stored { record, expires: Instant::now() + ttl };
        let number = inner.next_number.fetch_add(1, Ordering::Relaxed);
        keys.queues.entry(ttl).or_default().push_back((number, key));
        shard.publish_oldest(&keys);
        drop(keys);
        if let Some(ended) = ended {
            ended.notify_waiters();
        }
        inner.sweep_in_background();
        Ok(true)
    }

    async fn release(&self, key: StoreKey, token: Token) -> Result<(), StoreError> {
        let mut keys = self.inner.shard(key).lock();
        if keys.get(key).is_some_and(|entry| entry.is_held_by(token)) {
            let released = keys.entries.remove(&key);
            drop(keys);
            if let Some(Entry { state: State::Running { ended: Some(ended) }, .. }) = released {
                ended.notify_waiters();
            }
        }
        Ok(())
    }

    async fn wait(&self, key: StoreKey, _attempt: u32, at_most: Duration) {
        let ended = {
            let mut keys = self.inner.shard(key).lock();
            let Some(Entry { state: State::Running { ended }, .. }) = keys.get(key) else { return };
            let ended = ended.get_or_insert_with(Arc::default);
            // Made under the lock, so an end after this line wakes it, polled or not.
            Arc::clone(ended).notified_owned()
        };
        // An elapsed wait and an end are the same to the caller: it looks again.
        let _ = tokio::time::timeout(at_most, ended).await;
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

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        hash::{BuildHasher, DefaultHasher},
    };

    use super::*;

    thread_local! {
        static LOOKED_AT: Cell<usize> = const { Cell::new(0) };
    }

    /// Counts how many keys the map looks at.
    #[derive(Default)]
    pub(super) struct Counting;

    impl BuildHasher for Counting {
        type Hasher = DefaultHasher;

        fn build_hasher(&self) -> DefaultHasher {
            LOOKED_AT.set(LOOKED_AT.get() + 1);
            DefaultHasher::new()
        }
    }

    /// One key's life in the store; gives how many keys were looked at for it.
    async fn live(store: &MemoryStore) -> usize {
        let before = LOOKED_AT.get();
        let fingerprint = Fingerprint::from_bytes([1; 16]);
        let token = Token::random();
        let key = StoreKey::from_bytes(*token.as_bytes());
        for _ in 0..2 {
            store.claim(key, fingerprint, token, Duration::ZERO).await.unwrap();
            store.renew(key, token, Duration::ZERO).await.unwrap();
            store.release(key, token).await.unwrap();
        }
        store.claim(key, fingerprint, token, Duration::ZERO).await.unwrap();
        store.complete(key, token, Bytes::new(), Duration::from_hours(1)).await.unwrap();
        store.claim(key, fingerprint, Token::random(), Duration::ZERO).await.unwrap();
        let shard = store.inner.shard(key);
        store.inner.expire(shard, &mut shard.lock());
        LOOKED_AT.get() - before
    }

    /// The least of several lives: now and then the map grows, which looks at all of a shard's.
    async fn least(store: &MemoryStore) -> usize {
        let mut least = usize::MAX;
        for _ in 0..20 {
            least = least.min(live(store).await);
        }
        least
    }

    #[tokio::test]
    async fn no_call_looks_at_more_keys_where_more_are_stored() {
        let store = MemoryStore::new();
        live(&store).await;
        let with_few = least(&store).await;
        for _ in 0..50_000 {
            live(&store).await;
        }
        assert_eq!(least(&store).await, with_few);
        // Nor where each new record evicts another, but for that other one.
        let full = MemoryStore::builder().max_bytes(1 << 20).build();
        while full.evicted() == 0 {
            live(&full).await;
        }
        assert_eq!(least(&full).await, with_few + 1);
    }
}
