//! [`Shared`]: a store that the library does not know to be in this process.

use std::time::Duration;

use bytes::Bytes;
use idempotent_axum::{
    Attempt, Claim, Forgotten, Hold, KeyState, MemoryStore, Store, StoreError, StoreKey,
};

/// A `MemoryStore` that is asked as a store on a server is: what its requests cost but the server's
/// client.
pub struct Shared(pub MemoryStore);

impl Store for Shared {
    async fn claim(&self, attempt: &Attempt, lease: Duration) -> Result<Claim, StoreError> {
        self.0.claim(attempt, lease).await
    }

    async fn renew(&self, attempt: &Attempt, lease: Duration) -> Result<Hold, StoreError> {
        self.0.renew(attempt, lease).await
    }

    async fn complete(
        &self,
        attempt: &Attempt,
        record: Bytes,
        ttl: Duration,
    ) -> Result<Hold, StoreError> {
        self.0.complete(attempt, record, ttl).await
    }

    async fn release(&self, attempt: &Attempt) -> Result<(), StoreError> {
        self.0.release(attempt).await
    }

    async fn wait(&self, key: StoreKey, at_most: Duration) {
        self.0.wait(key, at_most).await;
    }

    async fn read(&self, key: StoreKey) -> Result<KeyState, StoreError> {
        self.0.read(key).await
    }

    async fn forget(&self, key: StoreKey, even_if_running: bool) -> Result<Forgotten, StoreError> {
        self.0.forget(key, even_if_running).await
    }
}
