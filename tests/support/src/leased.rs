//! [`Leased`]: a store with leases that lapse when the test says so.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use idempotent_runtime::{
    Attempt, Claim, Fingerprint, Forgotten, Hold, KeyState, Store, StoreError, StoreKey, Token,
};
use tokio::sync::Notify;

use crate::lock;

/// A shared store, as the runtime sees one. A clone is another handle to it.
#[derive(Debug, Clone, Default)]
pub struct Leased {
    entries: Arc<Mutex<HashMap<StoreKey, Entry>>>,
    changed: Arc<Notify>,
    wakes_after: Option<Duration>,
}

#[derive(Debug)]
struct Entry {
    fingerprint: Fingerprint,
    token: Token,
    /// The lease of the claim while it runs; once stored, the ttl. Neither counts down.
    left: Duration,
    record: Option<Bytes>,
}

impl Entry {
    fn state(&self) -> KeyState {
        let Self { fingerprint, left, .. } = *self;
        match &self.record {
            Some(record) => {
                KeyState::Stored { fingerprint, record: record.clone(), expires_in: left }
            }
            None => KeyState::Running { fingerprint: Some(fingerprint), lease_left: Some(left) },
        }
    }
}

impl Leased {
    /// A store whose `wait` returns after this time, whatever the key holds.
    #[must_use]
    pub fn waking_after(wait: Duration) -> Self {
        Self { wakes_after: Some(wait), ..Self::default() }
    }

    /// Makes every lease lapse now.
    pub fn lapse(&self) {
        lock(&self.entries).retain(|_, entry| entry.record.is_some());
        self.changed.notify_waiters();
    }

    /// Changes every record.
    pub fn rewrite(&self, change: impl Fn(&mut Vec<u8>)) {
        for entry in lock(&self.entries).values_mut() {
            entry.record = entry.record.take().map(|record| {
                let mut bytes = record.to_vec();
                change(&mut bytes);
                bytes.into()
            });
        }
    }
}

impl Store for Leased {
    async fn claim(&self, attempt: &Attempt, lease: Duration) -> Result<Claim, StoreError> {
        let Attempt { key, fingerprint, token, .. } = *attempt;
        let mut entries = lock(&self.entries);
        let new = Entry { fingerprint, token, left: lease, record: None };
        let entry = entries.entry(key).or_insert(new);
        Ok(match &entry.record {
            Some(record) => Claim::Stored {
                fingerprint: entry.fingerprint,
                record: record.clone(),
                expires_in: entry.left,
            },
            None if entry.token == token => Claim::Claimed { lease: Some(lease) },
            None => Claim::Running {
                fingerprint: Some(entry.fingerprint),
                lease_left: Some(entry.left),
            },
        })
    }

    async fn renew(&self, attempt: &Attempt, _: Duration) -> Result<Hold, StoreError> {
        let entries = lock(&self.entries);
        let is_held = entries
            .get(&attempt.key)
            .is_some_and(|entry| entry.token == attempt.token && entry.record.is_none());
        Ok(if is_held { Hold::Held } else { Hold::Lost })
    }

    async fn complete(
        &self,
        attempt: &Attempt,
        record: Bytes,
        ttl: Duration,
    ) -> Result<Hold, StoreError> {
        let mut entries = lock(&self.entries);
        let entry = entries.get_mut(&attempt.key).filter(|entry| entry.token == attempt.token);
        let Some(entry) = entry else { return Ok(Hold::Lost) };
        if entry.record.is_none() {
            entry.record = Some(record);
            entry.left = ttl;
        }
        drop(entries);
        self.changed.notify_waiters();
        Ok(Hold::Held)
    }

    async fn release(&self, attempt: &Attempt) -> Result<(), StoreError> {
        lock(&self.entries).retain(|key, entry| {
            *key != attempt.key || entry.token != attempt.token || entry.record.is_some()
        });
        self.changed.notify_waiters();
        Ok(())
    }

    async fn wait(&self, key: StoreKey, at_most: Duration) {
        if let Some(wait) = self.wakes_after {
            return tokio::time::sleep(wait.min(at_most)).await;
        }
        let changed = self.changed.notified();
        let running = {
            let entries = lock(&self.entries);
            entries.get(&key).is_some_and(|entry| entry.record.is_none())
        };
        if running {
            let _ = tokio::time::timeout(at_most, changed).await;
        }
    }

    async fn read(&self, key: StoreKey) -> Result<KeyState, StoreError> {
        Ok(lock(&self.entries).get(&key).map_or(KeyState::Absent, Entry::state))
    }

    async fn forget(&self, key: StoreKey, even_if_running: bool) -> Result<Forgotten, StoreError> {
        let mut entries = lock(&self.entries);
        let Some(entry) = entries.get(&key) else { return Ok(Forgotten::Absent) };
        if entry.record.is_none() && !even_if_running {
            return Ok(Forgotten::StillRunning { lease_left: Some(entry.left) });
        }
        entries.remove(&key);
        drop(entries);
        self.changed.notify_waiters();
        Ok(Forgotten::Freed)
    }
}
