//! The store of a service that has none: no layer, and no `memory` feature.

use std::{sync::Once, time::Duration};

use bytes::Bytes;

use super::{Claim, Store, StoreError, Token};
use crate::digest::{Fingerprint, StoreKey};

/// Fails every call, and says once in the log what to do.
#[derive(Debug)]
pub(crate) struct Unconfigured;

fn error() -> StoreError {
    static LOGGED: Once = Once::new();
    let error = StoreError::unconfigured();
    LOGGED.call_once(|| tracing::error!("{error}"));
    error
}

impl Store for Unconfigured {
    async fn claim(
        &self,
        _: StoreKey,
        _: Fingerprint,
        _: Token,
        _: Duration,
    ) -> Result<Claim, StoreError> {
        Err(error())
    }

    async fn renew(&self, _: StoreKey, _: Token, _: Duration) -> Result<bool, StoreError> {
        Err(error())
    }

    async fn complete(
        &self,
        _: StoreKey,
        _: Token,
        _: Bytes,
        _: Duration,
    ) -> Result<bool, StoreError> {
        Err(error())
    }

    async fn release(&self, _: StoreKey, _: Token) -> Result<(), StoreError> {
        // Nothing was claimed.
        Ok(())
    }

    async fn wait(&self, _: StoreKey, _: u32, _: Duration) {}
}
