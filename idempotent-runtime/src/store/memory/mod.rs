//! [`MemoryStore`]: one process, nothing to install.
//!
//! A key, running or stored, is one entry in one shard of a map, and each method is one critical
//! section on that shard. Stored keys are also queued, with one queue for each ttl: within a queue
//! records expire in the order in which they were stored, so expiry and eviction both take from the
//! front, and the cost of a call does not grow with the number of keys.
//!
//! This is not a general-purpose cache: those take about 700 bytes per entry, free evicted entries
//! late, and may reject the newest entry, which here is a response that nobody could then replay.

mod entries;
mod table;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use self::table::Table;
use super::{Attempt, Claim, Forgotten, Hold, KeyState, Store, StoreError, StoreKey};

const DEFAULT_MAX_BYTES: u64 = 64 << 20;
const MIN_MAX_BYTES: u64 = 64 << 10;

/// A store in this process's memory.
///
/// Its claims cannot be orphaned, because they end with the process that made them. Stored
/// responses take at most [`max_bytes`](MemoryStoreBuilder::max_bytes); beyond that the oldest ones
/// are evicted, counted in [`evicted`](MemoryStore::evicted) and logged at `warn`. A clone is
/// another handle to the same store.
///
/// It judges ttls by tokio's clock, which a test can
/// [advance](https://docs.rs/tokio/1/tokio/time/fn.advance.html).
///
/// All principals share the space: one with large responses evicts those of the others. If that
/// could be any caller, limit what is stored with
/// [`max_response_bytes`](crate::Idempotency::max_response_bytes).
///
/// ```
/// use idempotent_runtime::MemoryStore;
///
/// let store = MemoryStore::builder().max_bytes(16 << 20).build();
/// assert_eq!(store.evicted(), 0);
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    table: Arc<Table>,
}

/// Builds a [`MemoryStore`].
///
/// ```
/// # use idempotent_runtime::MemoryStore;
/// let store = MemoryStore::builder().max_bytes(256 << 20).build();
/// assert_eq!(store.stored_bytes(), 0);
/// ```
#[derive(Debug, Clone)]
#[must_use = "call `build`"]
pub struct MemoryStoreBuilder {
    max_bytes: u64,
}

impl MemoryStoreBuilder {
    /// How many bytes the stored responses may take, bookkeeping included. Default: 64 MiB; values
    /// below 64 KiB count as 64 KiB.
    ///
    /// ```
    /// # use idempotent_runtime::{MemoryStore, MemoryStoreBuilder};
    /// let builder: MemoryStoreBuilder = MemoryStore::builder().max_bytes(256 << 20);
    /// assert!(format!("{builder:?}").contains("268435456"));
    /// ```
    pub fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes.max(MIN_MAX_BYTES);
        self
    }

    /// Builds the store.
    ///
    /// ```
    /// # use idempotent_runtime::MemoryStore;
    /// let store: MemoryStore = MemoryStore::builder().build();
    /// assert_eq!(store.stored_bytes(), 0);
    /// ```
    #[must_use]
    pub fn build(self) -> MemoryStore {
        MemoryStore { table: Arc::new(Table::new(self.max_bytes)) }
    }
}

impl MemoryStore {
    /// A store with the default limit.
    ///
    /// ```
    /// # use idempotent_runtime::MemoryStore;
    /// assert_eq!(MemoryStore::new().stored_bytes(), 0);
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Starts building a store with a different limit.
    ///
    /// ```
    /// # use idempotent_runtime::MemoryStore;
    /// let store = MemoryStore::builder().max_bytes(16 << 20).build();
    /// assert_eq!(store.evicted(), 0);
    /// ```
    pub fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder { max_bytes: DEFAULT_MAX_BYTES }
    }

    /// How many stored responses were evicted before their ttl passed.
    ///
    /// A retry of such a request runs its handler again: if this is not 0, raise
    /// [`max_bytes`](MemoryStoreBuilder::max_bytes) or switch to a shared store.
    ///
    /// ```
    /// # use idempotent_runtime::{Idempotency, MemoryStore};
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let store = MemoryStore::builder().max_bytes(64 << 10).build();
    /// let operation = Idempotency::new(store.clone()).operation("charge-card");
    /// for message in 0..4 {
    ///     let key = operation.clone().key(message);
    ///     key.run(|_| async { Ok::<_, ()>("x".repeat(30 << 10)) }).await.unwrap();
    /// }
    /// assert!(store.evicted() > 0);
    /// # });
    /// ```
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.table.evictions.count()
    }

    /// How many bytes the stored responses currently take, bookkeeping included.
    ///
    /// ```
    /// # use idempotent_runtime::{Idempotency, MemoryStore};
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let store = MemoryStore::new();
    /// let key = Idempotency::new(store.clone()).operation("charge-card").key("message-1");
    /// key.run(|_| async { Ok::<_, ()>("x".repeat(1000)) }).await.unwrap();
    /// assert!(store.stored_bytes() > 1000);
    /// # });
    /// ```
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.table.bytes()
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn downgrade(&self) -> WeakMemoryStore {
        WeakMemoryStore(Arc::downgrade(&self.table))
    }

    /// The methods of this store, which need no future.
    pub(crate) fn table(&self) -> &Arc<Table> {
        &self.table
    }
}

/// A store that may already be gone.
#[cfg(feature = "metrics")]
pub(crate) struct WeakMemoryStore(std::sync::Weak<Table>);

#[cfg(feature = "metrics")]
impl WeakMemoryStore {
    pub(crate) fn upgrade(&self) -> Option<MemoryStore> {
        self.0.upgrade().map(|table| MemoryStore { table })
    }

    /// Whether it is `store` or a clone of it.
    pub(crate) fn is(&self, store: &MemoryStore) -> bool {
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&store.table))
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
            .field("max_bytes", &self.table.max_bytes)
            .field("stored_bytes", &self.stored_bytes())
            .field("evicted", &self.evicted())
            .finish_non_exhaustive()
    }
}

impl Store for MemoryStore {
    async fn claim(&self, attempt: &Attempt, _lease: Duration) -> Result<Claim, StoreError> {
        Ok(self.table.claim(attempt))
    }

    async fn renew(&self, attempt: &Attempt, _lease: Duration) -> Result<Hold, StoreError> {
        Ok(self.table.renew(attempt))
    }

    async fn complete(
        &self,
        attempt: &Attempt,
        record: Bytes,
        ttl: Duration,
    ) -> Result<Hold, StoreError> {
        self.table.complete(attempt, record, ttl, None)
    }

    async fn release(&self, attempt: &Attempt) -> Result<(), StoreError> {
        self.table.release(attempt);
        Ok(())
    }

    async fn wait(&self, key: StoreKey, at_most: Duration) {
        if let Some(ended) = self.table.ended(key) {
            // To the caller, a timeout and the end of the run are the same: it looks again.
            let _ = tokio::time::timeout(at_most, ended).await;
        }
    }

    async fn read(&self, key: StoreKey) -> Result<KeyState, StoreError> {
        Ok(self.table.read(key))
    }

    async fn forget(&self, key: StoreKey, even_if_running: bool) -> Result<Forgotten, StoreError> {
        Ok(self.table.forget(key, even_if_running))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        hash::{BuildHasher, DefaultHasher},
    };

    use super::*;
    use crate::store::{Fingerprint, Token};

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

    /// One key's life in the store; returns how many keys were looked at for it.
    async fn live(store: &MemoryStore) -> usize {
        let before = LOOKED_AT.get();
        let fingerprint = Fingerprint::from_bytes([1; 16]);
        let token = Token::random();
        let key = StoreKey::from_bytes(*token.as_bytes());
        let attempt = Attempt::new(key, fingerprint, token);
        for _ in 0..2 {
            store.claim(&attempt, Duration::ZERO).await.unwrap();
            assert_eq!(store.renew(&attempt, Duration::ZERO).await.unwrap(), Hold::Held);
            store.release(&attempt).await.unwrap();
        }
        store.claim(&attempt, Duration::ZERO).await.unwrap();
        let stored = store.complete(&attempt, Bytes::new(), Duration::from_secs(3600)).await;
        assert_eq!(stored.unwrap(), Hold::Held);
        let other = Attempt::new(key, fingerprint, Token::random());
        store.claim(&other, Duration::ZERO).await.unwrap();
        store.read(key).await.unwrap();
        let shard = store.table.shard(key);
        store.table.expire(shard, &mut shard.lock());
        LOOKED_AT.get() - before
    }

    /// The minimum over several lives: now and then the map grows, which looks at all keys of a
    /// shard.
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
        // Nor if each new record evicts another, except for looking at that one.
        let full = MemoryStore::builder().max_bytes(1 << 20).build();
        while full.evicted() == 0 {
            live(&full).await;
        }
        assert_eq!(least(&full).await, with_few + 1);
    }
}
