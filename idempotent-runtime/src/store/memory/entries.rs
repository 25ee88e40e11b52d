//! The keys of one shard: the entries, and the queues that tell which of them is the oldest.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::Notify, time::Instant};

use crate::store::{Claim, Extracted, Fingerprint, KeyState, StoreKey, Token};

/// Counted for each record in addition to its bytes: the entry, its place in the queue, and the
/// allocator's share. Measured by `benches/run memory`.
const ENTRY_OVERHEAD: u64 = 320;
/// One in this many bytes is lost by the allocator between records that come and go, at the peak of
/// a flood; measured by the same benchmark.
const FRAGMENTATION: u64 = 8;

/// Keys are digests, but of what callers choose: the hash is seeded so that nobody can choose keys
/// that collide in the map.
#[cfg(not(test))]
type Hashing = foldhash::quality::RandomState;
#[cfg(test)]
type Hashing = super::tests::Counting;

/// The keys of one shard.
#[derive(Default)]
pub(super) struct Keys {
    pub(super) entries: HashMap<StoreKey, Entry, Hashing>,
    /// The stored keys by ttl, oldest first, with their numbers.
    pub(super) queues: BTreeMap<Duration, VecDeque<(u64, StoreKey)>>,
}

pub(super) struct Entry {
    pub(super) fingerprint: Fingerprint,
    pub(super) token: Token,
    pub(super) phase: Phase,
}

/// Running or stored.
pub(super) enum Phase {
    Running {
        /// Created by the first waiter, since most claims never have one.
        ended: Option<Arc<Notify>>,
    },
    Stored {
        record: Bytes,
        expires: Instant,
        /// The type that the last parameter of the request that stored it was extracted as, if its
        /// handler allows replays to skip extraction.
        extracted: Option<Extracted>,
    },
}

impl Phase {
    /// What to notify at the end of the run, if this is a run and someone waits for it.
    pub(super) fn ended(self) -> Option<Arc<Notify>> {
        match self {
            Self::Running { ended } => ended,
            Self::Stored { .. } => None,
        }
    }
}

impl Entry {
    pub(super) fn is_held_by(&self, token: Token) -> bool {
        self.token == token && matches!(self.phase, Phase::Running { .. })
    }

    pub(super) fn has_expired(&self) -> bool {
        matches!(self.phase, Phase::Stored { expires, .. } if expires <= Instant::now())
    }

    /// What it holds.
    pub(super) fn state(&self) -> KeyState {
        let fingerprint = self.fingerprint;
        match &self.phase {
            Phase::Running { .. } => {
                KeyState::Running { fingerprint: Some(fingerprint), lease_left: None }
            }
            Phase::Stored { record, expires, .. } => {
                KeyState::Stored { fingerprint, record: record.clone(), expires_in: left(*expires) }
            }
        }
    }

    /// What a claim by `token` finds here.
    pub(super) fn read_by(&self, token: Token) -> Claim {
        let fingerprint = self.fingerprint;
        match &self.phase {
            Phase::Running { .. } if self.token == token => Claim::Claimed { lease: None },
            Phase::Running { .. } => {
                Claim::Running { fingerprint: Some(fingerprint), lease_left: None }
            }
            Phase::Stored { record, expires, .. } => {
                Claim::Stored { fingerprint, record: record.clone(), expires_in: left(*expires) }
            }
        }
    }

    pub(super) fn weight(&self) -> u64 {
        match &self.phase {
            Phase::Running { .. } => 0,
            Phase::Stored { record, .. } => weight(record),
        }
    }
}

fn left(expires: Instant) -> Duration {
    expires.saturating_duration_since(Instant::now())
}

pub(super) fn weight(record: &Bytes) -> u64 {
    let bytes = record.len() as u64;
    bytes + bytes / FRAGMENTATION + ENTRY_OVERHEAD
}

impl Keys {
    /// The entry of `key`, unless it has expired.
    pub(super) fn get(&mut self, key: StoreKey) -> Option<&mut Entry> {
        self.entries.get_mut(&key).filter(|entry| !entry.has_expired())
    }

    /// The queue with the oldest record, and that record's number.
    pub(super) fn oldest(&self) -> Option<(Duration, u64)> {
        let fronts = self.queues.iter().filter_map(|(ttl, queue)| Some((*ttl, queue.front()?.0)));
        fronts.min_by_key(|(_, number)| *number)
    }

    /// Takes the oldest record of the queue of `ttl`.
    pub(super) fn pop(&mut self, ttl: Duration) -> Option<Entry> {
        let queue = self.queues.get_mut(&ttl)?;
        let (_, key) = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&ttl);
        }
        self.entries.remove(&key)
    }

    /// Removes `key`, wherever it is queued. Only called on demand, so it may go through all of the
    /// shard's keys.
    pub(super) fn forget(&mut self, key: StoreKey) -> Option<Entry> {
        for queue in self.queues.values_mut() {
            queue.retain(|(_, queued)| *queued != key);
        }
        self.queues.retain(|_, queue| !queue.is_empty());
        self.entries.remove(&key)
    }

    /// Takes one expired record.
    pub(super) fn pop_expired(&mut self) -> Option<Entry> {
        let is_expired = |key| self.entries.get(key).is_some_and(Entry::has_expired);
        let fronts = self.queues.iter().filter_map(|(ttl, queue)| Some((*ttl, &queue.front()?.1)));
        let (ttl, _) = { fronts }.find(|(_, key)| is_expired(key))?;
        self.pop(ttl)
    }

    /// Returns the memory that a flood has left behind.
    pub(super) fn shrink(&mut self) {
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
