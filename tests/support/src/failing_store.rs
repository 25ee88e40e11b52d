//! [`FailingStore`]: a store that is out of reach.

use std::time::Duration;

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
