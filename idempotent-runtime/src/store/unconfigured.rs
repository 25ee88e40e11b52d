//! The store of a service that has none: no layer, and no `memory` feature.

use std::{sync::Once, time::Duration};

use bytes::Bytes;

use super::{Claim, Store, StoreError, Token};
use crate::digest::{Fingerprint, StoreKey};

/// Fails every call, and says once in the log what to do.
#[derive(Debug)]
pub(crate) struct Unconfigured(Once);

impl Unconfigured {
    pub(crate) fn new() -> Self {
        Self(Once::new())
    }

    fn error(&self) -> StoreError {
        const MESSAGE: &str = "`#[idempotent]` has no store: put an `Idempotency` layer around the \
                               router, or enable the feature `memory` of `idempotent-axum`";
        self.0.call_once(|| tracing::error!("{MESSAGE}"));
        StoreError::new(MESSAGE)
    }
}

impl Store for Unconfigured {
    async fn claim(
        &self,
        _: StoreKey,
        _: Fingerprint,
        _: Token,
        _: Duration,
    ) -> Result<Claim, StoreError> {
        Err(self.error())
    }

    async fn renew(&self, _: StoreKey, _: Token, _: Duration) -> Result<bool, StoreError> {
        Err(self.error())
    }

    async fn complete(
        &self,
        _: StoreKey,
        _: Token,
        _: Bytes,
        _: Duration,
    ) -> Result<bool, StoreError> {
        Err(self.error())
    }

    async fn release(&self, _: StoreKey, _: Token) -> Result<(), StoreError> {
        Err(self.error())
    }

    async fn wait(&self, _: StoreKey, _: u32, _: Duration) {}
}
