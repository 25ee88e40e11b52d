//! [`Leased`]: a store with leases that lapse when the test says so.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use idempotent_runtime::{Claim, Fingerprint, Store, StoreError, StoreKey, Token};
use tokio::sync::Notify;

use crate::lock;

/// A shared store, as the runtime sees one. A clone is another handle to it.
#[derive(Debug, Clone, Default)]
pub struct Leased {
    entries: Arc<Mutex<HashMap<StoreKey, Entry>>>,
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct Entry {
    fingerprint: Fingerprint,
    token: Token,
    record: Option<Bytes>,
}

impl Leased {
    /// Every lease lapses now.
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
    async fn claim(
        &self,
        key: StoreKey,
        fingerprint: Fingerprint,
        token: Token,
        lease: Duration,
    ) -> Result<Claim, StoreError> {
        let mut entries = lock(&self.entries);
        let entry = entries.entry(key).or_insert(Entry { fingerprint, token, record: None });
        let fingerprint = entry.fingerprint;
        Ok(match &entry.record {
            Some(record) => Claim::Stored { fingerprint, record: record.clone() },
            None if entry.token == token => Claim::Claimed { lease: Some(lease) },
            None => Claim::Running { fingerprint, lease_left: Some(lease) },
        })
    }

    async fn renew(&self, key: StoreKey, token: Token, _: Duration) -> Result<bool, StoreError> {
        let entries = lock(&self.entries);
        Ok(entries.get(&key).is_some_and(|entry| entry.token == token && entry.record.is_none()))
    }

    async fn complete(
        &self,
        key: StoreKey,
        token: Token,
        record: Bytes,
        _: Duration,
    ) -> Result<bool, StoreError> {
        let mut entries = lock(&self.entries);
        let Some(entry) = entries.get_mut(&key).filter(|entry| entry.token == token) else {
            return Ok(false);
        };
        entry.record.get_or_insert(record);
        drop(entries);
        self.changed.notify_waiters();
        Ok(true)
    }

    async fn release(&self, key: StoreKey, token: Token) -> Result<(), StoreError> {
        lock(&self.entries)
            .retain(|other, entry| *other != key || entry.token != token || entry.record.is_some());
        self.changed.notify_waiters();
        Ok(())
    }

    async fn wait(&self, key: StoreKey, _: u32, at_most: Duration) {
        let changed = self.changed.notified();
        let running = {
            let entries = lock(&self.entries);
            entries.get(&key).is_some_and(|entry| entry.record.is_none())
        };
        if running {
            let _ = tokio::time::timeout(at_most, changed).await;
        }
    }
}
