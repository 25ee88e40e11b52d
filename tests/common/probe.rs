//! A store that counts its calls and fails them on demand, around a real one.
#![allow(dead_code, reason = "not every test file uses every helper")]

use std::{
    collections::VecDeque,
    future::{Future, pending, poll_fn},
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use idempotent_axum::{Claim, Fingerprint, MemoryStore, Store, StoreError, StoreKey, Token};

use crate::gate::Counter;

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No fault.
    Works,
    /// The call fails, and nothing is done.
    Fails,
    /// The call is done, and its answer is an error.
    FailsAfter,
    /// The call is not done and never answers.
    Hangs,
    /// The call is done and never answers.
    HangsAfter,
}

/// One verb of the store.
#[derive(Clone, Default)]
pub(crate) struct Verb {
    /// Calls that have begun; counted once they wait for something or are done.
    pub(crate) begun: Counter,
    /// Calls that have ended, or were dropped.
    pub(crate) ended: Counter,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Default)]
struct Faults {
    next: VecDeque<Fault>,
    then: Option<Fault>,
}

impl Verb {
    /// What happens to the next calls, in order.
    pub(crate) fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().next.extend(faults);
    }

    /// What happens to every call from now on that has no fault of its own.
    pub(crate) fn always(&self, fault: Fault) {
        self.faults.lock().unwrap().then = Some(fault);
    }

    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let _ended = self.ended.add_on_drop();
        let fault = {
            let mut faults = self.faults.lock().unwrap();
            faults.next.pop_front().or(faults.then).unwrap_or(Fault::Works)
        };
        let mut call = pin!(call);
        if fault == Fault::Works {
            // A waiter is counted when the store knows of it.
            let first = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
            self.begun.add();
            return match first {
                Poll::Ready(answer) => answer,
                Poll::Pending => call.await,
            };
        }
        self.begun.add();
        match fault {
            Fault::Works => call.await,
            Fault::Fails => Err(StoreError::new("injected")),
            Fault::FailsAfter => {
                call.await?;
                Err(StoreError::new("injected"))
            }
            Fault::Hangs => pending().await,
            Fault::HangsAfter => {
                call.await?;
                pending().await
            }
        }
    }
}

/// A store around `S`. A clone is another handle to it.
#[derive(Clone, Default)]
pub(crate) struct Probe<S = Arc<MemoryStore>> {
    pub(crate) store: S,
    pub(crate) claim: Verb,
    pub(crate) renew: Verb,
    pub(crate) complete: Verb,
    pub(crate) release: Verb,
    pub(crate) wait: Verb,
}

impl<S> Probe<S> {
    pub(crate) fn on(store: S) -> Self {
        let [claim, renew, complete, release, wait] = std::array::from_fn(|_| Verb::default());
        Self { store, claim, renew, complete, release, wait }
    }
}

impl<S: Store> Store for Probe<S> {
    async fn claim(
        &self,
        key: StoreKey,
        fingerprint: Fingerprint,
        token: Token,
        lease: Duration,
    ) -> Result<Claim, StoreError> {
        self.claim.call(self.store.claim(key, fingerprint, token, lease)).await
    }

    async fn renew(
        &self,
        key: StoreKey,
        token: Token,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        self.renew.call(self.store.renew(key, token, lease)).await
    }

    async fn complete(
        &self,
        key: StoreKey,
        token: Token,
        record: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        self.complete.call(self.store.complete(key, token, record, ttl)).await
    }

    async fn release(&self, key: StoreKey, token: Token) -> Result<(), StoreError> {
        self.release.call(self.store.release(key, token)).await
    }

    async fn wait(&self, key: StoreKey, attempt: u32, at_most: Duration) {
        let wait = async {
            self.store.wait(key, attempt, at_most).await;
            Ok(())
        };
        let _ = self.wait.call(wait).await;
    }
}
