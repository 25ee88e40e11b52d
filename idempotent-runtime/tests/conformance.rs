//! The conformance suite passes the store of this crate, and fails stores that break a promise.
#![cfg(all(feature = "testing", feature = "memory"))]

use std::time::Duration;

use bytes::Bytes;
use idempotent_runtime::{
    Claim, Fingerprint, MemoryStore, Store, StoreError, StoreKey, Token, testing::conformance,
};

/// Which promise a [`Broken`] store does not keep.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    CheckThenInsert,
    ReleaseWithoutToken,
    CompleteWithoutToken,
    RenewAnything,
    WaitMissesTheEnd,
    ForgetsTtl,
}

/// A memory store with one fault.
struct Broken {
    fault: Fault,
    store: MemoryStore,
    /// The token of the last claim, for faults that act in its name.
    holder: std::sync::Mutex<std::collections::HashMap<StoreKey, Token>>,
}

impl Broken {
    fn new(fault: Fault) -> Self {
        Self { fault, store: MemoryStore::new(), holder: std::sync::Mutex::default() }
    }

    fn holder(&self, key: StoreKey) -> Option<Token> {
        self.holder.lock().unwrap().get(&key).copied()
    }
}

impl Store for Broken {
    async fn claim(
        &self,
        key: StoreKey,
        fingerprint: Fingerprint,
        token: Token,
        lease: Duration,
    ) -> Result<Claim, StoreError> {
        if self.fault == Fault::CheckThenInsert && self.holder(key).is_none() {
            // Another thread comes between the check and the insert.
            tokio::task::yield_now().await;
            std::thread::yield_now();
            self.holder.lock().unwrap().insert(key, token);
            self.store.claim(key, fingerprint, token, lease).await?;
            return Ok(Claim::Claimed { lease: None });
        }
        let claim = self.store.claim(key, fingerprint, token, lease).await?;
        if matches!(claim, Claim::Claimed { .. }) {
            self.holder.lock().unwrap().insert(key, token);
        }
        Ok(claim)
    }

    async fn renew(
        &self,
        key: StoreKey,
        token: Token,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        if self.fault == Fault::RenewAnything {
            return Ok(true);
        }
        self.store.renew(key, token, lease).await
    }

    async fn complete(
        &self,
        key: StoreKey,
        token: Token,
        record: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let (token, ttl) = match self.fault {
            Fault::CompleteWithoutToken => (self.holder(key).unwrap_or(token), ttl),
            Fault::ForgetsTtl => (token, Duration::from_hours(1)),
            _ => (token, ttl),
        };
        self.store.complete(key, token, record, ttl).await
    }

    async fn release(&self, key: StoreKey, token: Token) -> Result<(), StoreError> {
        let token = match self.fault {
            Fault::ReleaseWithoutToken => self.holder(key).unwrap_or(token),
            _ => token,
        };
        self.store.release(key, token).await
    }

    async fn wait(&self, key: StoreKey, attempt: u32, at_most: Duration) {
        if self.fault == Fault::WaitMissesTheEnd {
            return tokio::time::sleep(at_most).await;
        }
        self.store.wait(key, attempt, at_most).await;
    }
}

/// What the suite says about a store with `fault`.
async fn verdict(fault: Fault) -> String {
    let error = tokio::spawn(conformance(Broken::new(fault)))
        .await
        .expect_err("the suite accepts a broken store");
    let panic = error.into_panic();
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_store_conforms() {
    conformance(MemoryStore::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_checks_then_inserts_fails() {
    assert!(verdict(Fault::CheckThenInsert).await.contains("claimed one key at once"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_without_token_fails() {
    assert!(verdict(Fault::ReleaseWithoutToken).await.contains("after a stranger's `release`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_without_token_fails() {
    assert!(verdict(Fault::CompleteWithoutToken).await.contains("a stranger completes"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_of_anything_fails() {
    assert!(verdict(Fault::RenewAnything).await.contains("a stranger renews"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_misses_the_end_fails() {
    assert!(verdict(Fault::WaitMissesTheEnd).await.contains("does not miss the end"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_that_is_forgotten_fails() {
    assert!(verdict(Fault::ForgetsTtl).await.contains("outlives its ttl"));
}
