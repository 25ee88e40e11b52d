//! The table behind a [`MemoryStore`](super::MemoryStore): shards, methods, space and expiry.

use std::{
    collections::hash_map,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, futures::OwnedNotified},
    time::Instant,
};

use super::entries::{Entry, Keys, Phase, weight};
use crate::store::{
    Attempt, Claim, Extracted, Fingerprint, Forgotten, Hold, KeyState, StoreError, StoreKey,
    evictions::Evictions,
};

const SHARDS: usize = 64;
/// Stands for the number of the oldest record if there are no records.
const NONE: u64 = u64::MAX;

/// The sharded map, its limit, and what is counted.
pub(crate) struct Table {
    shards: Box<[Shard]>,
    pub(super) max_bytes: u64,
    /// The bytes of all records, stored or about to be.
    bytes: AtomicU64,
    /// Numbers the records in the order in which they are stored.
    next_number: AtomicU64,
    pub(super) evictions: Evictions,
    janitor: AtomicBool,
}

pub(super) struct Shard {
    keys: Mutex<Keys>,
    /// The number of the oldest record, or [`NONE`]: finds the globally oldest without a lock.
    oldest: AtomicU64,
}

impl Shard {
    fn new() -> Self {
        Self { keys: Mutex::default(), oldest: AtomicU64::new(NONE) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Keys> {
        // Nothing in a critical section panics halfway through a change.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish_oldest(&self, keys: &Keys) {
        let oldest = keys.oldest().map_or(NONE, |(_, number)| number);
        self.oldest.store(oldest, Ordering::Relaxed);
    }
}

impl Table {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::new()).collect(),
            max_bytes,
            bytes: AtomicU64::new(0),
            next_number: AtomicU64::new(0),
            evictions: Evictions::of("MemoryStore"),
            janitor: AtomicBool::new(false),
        }
    }

    /// Bytes of all records, stored or about to be.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn claim(&self, attempt: &Attempt) -> Claim {
        let Attempt { key, fingerprint, token, .. } = *attempt;
        let shard = self.shard(key);
        let mut keys = shard.lock();
        let claim = Entry { fingerprint, token, phase: Phase::Running { ended: None } };
        match keys.entries.entry(key) {
            hash_map::Entry::Vacant(absent) => {
                absent.insert(claim);
            }
            hash_map::Entry::Occupied(found) if !found.get().has_expired() => {
                return found.get().read_by(token);
            }
            hash_map::Entry::Occupied(_) => {
                // Its queue must forget the record before the key becomes anything else.
                self.expire(shard, &mut keys);
                keys.entries.insert(key, claim);
            }
        }
        Claim::Claimed { lease: None }
    }

    pub(super) fn renew(&self, attempt: &Attempt) -> Hold {
        let mut keys = self.shard(attempt.key).lock();
        match keys.get(attempt.key) {
            Some(entry) if entry.is_held_by(attempt.token) => Hold::Held,
            _ => Hold::Lost,
        }
    }

    pub(crate) fn complete(
        self: &Arc<Self>,
        attempt: &Attempt,
        record: Bytes,
        ttl: Duration,
        extracted: Option<Extracted>,
    ) -> Result<Hold, StoreError> {
        let weight = weight(&record);
        if weight > self.max_bytes {
            return Err(StoreError::too_large());
        }
        self.reserve(weight);
        let shard = self.shard(attempt.key);
        let mut keys = shard.lock();
        let entry = keys.get(attempt.key).filter(|entry| entry.token == attempt.token);
        let ended = match entry {
            Some(Entry { phase: phase @ Phase::Running { .. }, .. }) => {
                let expires = Instant::now() + ttl;
                std::mem::replace(phase, Phase::Stored { record, expires, extracted }).ended()
            }
            stored_or_lost => {
                let hold = stored_or_lost.map_or(Hold::Lost, |_| Hold::Held);
                drop(keys);
                self.give_back(weight);
                return Ok(hold);
            }
        };
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        keys.queues.entry(ttl).or_default().push_back((number, attempt.key));
        shard.publish_oldest(&keys);
        drop(keys);
        wake(ended);
        self.sweep_in_background();
        Ok(Hold::Held)
    }

    pub(crate) fn release(&self, attempt: &Attempt) {
        let mut keys = self.shard(attempt.key).lock();
        if keys.get(attempt.key).is_some_and(|entry| entry.is_held_by(attempt.token)) {
            let released = keys.entries.remove(&attempt.key);
            drop(keys);
            wake(released.and_then(|entry| entry.phase.ended()));
        }
    }

    /// A signal for the end of the run that holds `key`; `None` if no run does.
    pub(super) fn ended(&self, key: StoreKey) -> Option<OwnedNotified> {
        let mut keys = self.shard(key).lock();
        let Some(Entry { phase: Phase::Running { ended }, .. }) = keys.get(key) else {
            return None;
        };
        // Created under the lock, so that an end after this line wakes it, whether polled or not.
        Some(Arc::clone(ended.get_or_insert_default()).notified_owned())
    }

    pub(super) fn read(&self, key: StoreKey) -> KeyState {
        self.shard(key).lock().get(key).map_or(KeyState::Absent, |entry| entry.state())
    }

    pub(super) fn forget(&self, key: StoreKey, even_if_running: bool) -> Forgotten {
        let shard = self.shard(key);
        let mut keys = shard.lock();
        match keys.get(key).map(|entry| &entry.phase) {
            None => return Forgotten::Absent,
            Some(Phase::Running { .. }) if !even_if_running => {
                return Forgotten::StillRunning { lease_left: None };
            }
            Some(_) => {}
        }
        let Some(entry) = keys.forget(key) else { return Forgotten::Absent };
        shard.publish_oldest(&keys);
        drop(keys);
        let weight = entry.weight();
        wake(entry.phase.ended());
        self.give_back(weight);
        Forgotten::Freed
    }

    /// The record of `key`, if a request with `fingerprint` stored it whose last parameter was
    /// extracted as `extracted`.
    pub(crate) fn look(
        &self,
        key: StoreKey,
        fingerprint: Fingerprint,
        extracted: Extracted,
    ) -> Option<Bytes> {
        let mut keys = self.shard(key).lock();
        let entry = keys.get(key).filter(|entry| entry.fingerprint == fingerprint)?;
        match &entry.phase {
            Phase::Stored { record, extracted: Some(by), .. } if by() == extracted() => {
                Some(record.clone())
            }
            _ => None,
        }
    }

    pub(super) fn shard(&self, key: StoreKey) -> &Shard {
        &self.shards[usize::from(key.as_bytes()[0]) % SHARDS]
    }

    /// Makes room for `weight` bytes before they are added, so that the newest record is never
    /// evicted.
    fn reserve(&self, weight: u64) {
        let fits = |bytes| Some(bytes + weight).filter(|bytes| *bytes <= self.max_bytes);
        while self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            if !self.evict_oldest() {
                // The rest is room that others have made but not yet used.
                std::thread::yield_now();
            }
        }
    }

    /// Frees `entry`, then the room it took: nobody may fill that room while the bytes still exist.
    fn free(&self, entry: Entry) {
        let weight = entry.weight();
        drop(entry);
        self.give_back(weight);
    }

    fn give_back(&self, weight: u64) {
        self.bytes.fetch_sub(weight, Ordering::Relaxed);
    }

    /// Evicts the globally oldest record; `false` if there is none.
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
                self.evictions.add(1);
                self.evictions.tell();
            }
        }
        true
    }

    /// Frees the expired records of `shard`.
    pub(super) fn expire(&self, shard: &Shard, keys: &mut Keys) {
        while let Some(entry) = keys.pop_expired() {
            self.free(entry);
        }
        shard.publish_oldest(keys);
    }

    /// Frees expired records even when there are no requests, in a task that lives as long as the
    /// store.
    fn sweep_in_background(self: &Arc<Self>) {
        if self.janitor.load(Ordering::Relaxed) || self.janitor.swap(true, Ordering::AcqRel) {
            return;
        }
        let duty = JanitorDuty(Arc::downgrade(self));
        // Without a runtime there is nothing to sweep on; the next record tries again.
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

/// Held by the janitor task: once that has gone with its runtime, the next record starts another.
struct JanitorDuty(Weak<Table>);

impl Drop for JanitorDuty {
    fn drop(&mut self) {
        if let Some(inner) = self.0.upgrade() {
            inner.janitor.store(false, Ordering::Release);
        }
    }
}

fn wake(ended: Option<Arc<Notify>>) {
    if let Some(ended) = ended {
        ended.notify_waiters();
    }
}
