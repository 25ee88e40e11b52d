//! Stores that show what the runtime asks of them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use idempotent_runtime::{Claim, Fingerprint, Store, StoreError, StoreKey, Token};

/// A store whose every call fails.
#[derive(Debug, Clone, Copy, Default)]
pub struct FailingStore;

impl FailingStore {
    fn error() -> StoreError {
        StoreError::new("this store is out of reach")
    }
}

impl Store for FailingStore {
    async fn claim(
        &self,
        _: StoreKey,
        _: Fingerprint,
        _: Token,
        _: Duration,
    ) -> Result<Claim, StoreError> {
        Err(Self::error())
    }

    async fn renew(&self, _: StoreKey, _: Token, _: Duration) -> Result<bool, StoreError> {
        Err(Self::error())
    }

    async fn complete(
        &self,
        _: StoreKey,
        _: Token,
        _: Bytes,
        _: Duration,
    ) -> Result<bool, StoreError> {
        Err(Self::error())
    }

    async fn release(&self, _: StoreKey, _: Token) -> Result<(), StoreError> {
        Err(Self::error())
    }

    async fn wait(&self, _: StoreKey, _: u32, _: Duration) {}
}

/// A store that keeps a list of what was claimed.
#[derive(Debug, Clone, Default)]
pub struct Recorder<S> {
    store: S,
    claims: Arc<Mutex<Vec<(StoreKey, Fingerprint)>>>,
}

impl<S> Recorder<S> {
    /// Key and fingerprint of every claim so far.
    ///
    /// # Panics
    ///
    /// Never.
    #[must_use]
    pub fn claims(&self) -> Vec<(StoreKey, Fingerprint)> {
        self.claims.lock().expect("nothing panics under the lock").clone()
    }
}

impl<S: Store> Store for Recorder<S> {
    async fn claim(
        &self,
        key: StoreKey,
        fingerprint: Fingerprint,
        token: Token,
        lease: Duration,
    ) -> Result<Claim, StoreError> {
        self.claims.lock().expect("nothing panics under the lock").push((key, fingerprint));
        self.store.claim(key, fingerprint, token, lease).await
    }

    async fn renew(
        &self,
        key: StoreKey,
        token: Token,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        self.store.renew(key, token, lease).await
    }

    async fn complete(
        &self,
        key: StoreKey,
        token: Token,
        record: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        self.store.complete(key, token, record, ttl).await
    }

    async fn release(&self, key: StoreKey, token: Token) -> Result<(), StoreError> {
        self.store.release(key, token).await
    }

    async fn wait(&self, key: StoreKey, attempt: u32, at_most: Duration) {
        self.store.wait(key, attempt, at_most).await;
    }
}
