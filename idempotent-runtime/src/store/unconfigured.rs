//! The store of a service that has none: no layer, and no `memory` feature.

use std::{sync::Once, time::Duration};

use bytes::Bytes;

use super::{Attempt, Claim, Forgotten, Hold, KeyState, Store, StoreError, StoreKey};

/// Fails every call, and logs once what to do.
#[derive(Debug)]
pub(crate) struct Unconfigured;

fn error() -> StoreError {
    static LOGGED: Once = Once::new();
    let error = StoreError::unconfigured();
    LOGGED.call_once(|| tracing::error!(target: crate::TARGET, "{error}"));
    error
}

impl Store for Unconfigured {
    async fn claim(&self, _: &Attempt, _: Duration) -> Result<Claim, StoreError> {
        Err(error())
    }

    async fn renew(&self, _: &Attempt, _: Duration) -> Result<Hold, StoreError> {
        Err(error())
    }

    async fn complete(&self, _: &Attempt, _: Bytes, _: Duration) -> Result<Hold, StoreError> {
        Err(error())
    }

    async fn release(&self, _: &Attempt) -> Result<(), StoreError> {
        // Nothing was claimed.
        Ok(())
    }

    async fn wait(&self, _: StoreKey, _: Duration) {}

    async fn read(&self, _: StoreKey) -> Result<KeyState, StoreError> {
        Err(error())
    }

    async fn forget(&self, _: StoreKey, _: bool) -> Result<Forgotten, StoreError> {
        Err(error())
    }
}
