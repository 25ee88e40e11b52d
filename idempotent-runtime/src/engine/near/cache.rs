//! [`Cache`]: holds the copies, in bounded memory.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::Copied;
use crate::store::StoreKey;

/// Counted for each copy in addition to its bytes: the cache's own overhead, measured by
/// `benches/run memory`.
const ENTRY_OVERHEAD: usize = 592;
/// One in this many bytes is lost by the allocator between records that come and go, as in
/// `MemoryStore`.
const FRAGMENTATION: usize = 8;

/// A bounded number of bytes of copies. How often each was requested decides which are dropped, and
/// whether a new one may replace another: a missing copy costs one round trip.
pub(super) struct Cache(moka::sync::Cache<StoreKey, Arc<Slot>>);

/// A copy, until it is evicted: moka frees evicted entries some time later, and would thus hold
/// more than it may.
struct Slot {
    weight: u32,
    until: tokio::time::Instant,
    copied: Mutex<Option<Copied>>,
}

impl Slot {
    fn get(&self) -> Option<Copied> {
        self.copied.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn free(&self) {
        let copied = self.copied.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(copied);
    }
}

impl Cache {
    pub(super) fn new(max_bytes: usize) -> Self {
        let cache = moka::sync::Cache::builder()
            .max_capacity(u64::try_from(max_bytes).unwrap_or(u64::MAX))
            .weigher(|_, slot: &Arc<Slot>| slot.weight)
            .expire_after(Expiry)
            .eviction_listener(|_, slot, _| slot.free());
        Self(cache.build())
    }

    pub(super) fn max_bytes(&self) -> u64 {
        self.0.policy().max_capacity().unwrap_or(u64::MAX)
    }

    pub(super) fn get(&self, key: StoreKey) -> Option<Copied> {
        self.0.get(&key)?.get()
    }

    pub(super) fn insert(&self, key: StoreKey, copied: Copied) {
        let (weight, until) = (weight(copied.answer.len()), copied.until);
        self.0.insert(key, Arc::new(Slot { weight, until, copied: Mutex::new(Some(copied)) }));
        // Makes room at once: on its own the cache only does so after 64 entries, however large.
        self.0.run_pending_tasks();
    }

    pub(super) fn remove(&self, key: StoreKey) {
        self.0.invalidate(&key);
    }
}

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes + bytes / FRAGMENTATION + ENTRY_OVERHEAD).unwrap_or(u32::MAX)
}

/// Frees copies once they are stale. Whether one is, its reader decides.
struct Expiry;

impl Expiry {
    fn left(slot: &Slot) -> Duration {
        slot.until.saturating_duration_since(tokio::time::Instant::now())
    }
}

impl moka::Expiry<StoreKey, Arc<Slot>> for Expiry {
    fn expire_after_create(&self, _: &StoreKey, slot: &Arc<Slot>, _: Instant) -> Option<Duration> {
        Some(Self::left(slot))
    }

    fn expire_after_update(
        &self,
        _: &StoreKey,
        slot: &Arc<Slot>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(Self::left(slot))
    }
}
