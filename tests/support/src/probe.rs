//! [`Probe`]: a store that notes its calls and fails them on demand, around a real one.

use std::{
    collections::VecDeque,
    future::{Future, pending, poll_fn},
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use idempotent_runtime::{Claim, Fingerprint, Store, StoreError, StoreKey, Token};

use crate::{Counter, Gate, lock};

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
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
#[derive(Debug, Clone, Default)]
pub struct Verb {
    /// Calls that have begun; counted once they wait for something or are done.
    pub begun: Counter,
    /// Calls that have ended, or were dropped.
    pub ended: Counter,
    faults: Arc<Mutex<Faults>>,
    held: Arc<Mutex<Option<Gate>>>,
}

#[derive(Debug, Default)]
struct Faults {
    next: VecDeque<Fault>,
    then: Option<Fault>,
}

impl Verb {
    /// What happens to the next calls, in order.
    pub fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.faults).next.extend(faults);
    }

    /// What happens to every call from now on that has no fault of its own.
    pub fn always(&self, fault: Fault) {
        lock(&self.faults).then = Some(fault);
    }

    /// Every call from now on stops at this gate, before anything is done.
    #[must_use]
    pub fn hold(&self) -> Gate {
        lock(&self.held).get_or_insert_default().clone()
    }

    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let _ended = self.ended.add_on_drop();
        let held = lock(&self.held).clone();
        if let Some(gate) = held {
            gate.pass().await;
        }
        let fault = {
            let mut faults = lock(&self.faults);
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
#[derive(Debug, Clone, Default)]
pub struct Probe<S> {
    /// The store that it is around.
    pub store: S,
    /// Its `claim`.
    pub claim: Verb,
    /// Its `renew`.
    pub renew: Verb,
    /// Its `complete`.
    pub complete: Verb,
    /// Its `release`.
    pub release: Verb,
    /// Its `wait`.
    pub wait: Verb,
    claims: Arc<Mutex<Vec<(StoreKey, Fingerprint)>>>,
}

impl<S> Probe<S> {
    /// Around `store`.
    pub fn on(store: S) -> Self {
        let [claim, renew, complete, release, wait] = std::array::from_fn(|_| Verb::default());
        Self { store, claim, renew, complete, release, wait, claims: Arc::default() }
    }

    /// What happens to every call of any verb from now on that has no fault of its own.
    #[must_use]
    pub fn always(self, fault: Fault) -> Self {
        for verb in [&self.claim, &self.renew, &self.complete, &self.release, &self.wait] {
            verb.always(fault);
        }
        self
    }

    /// Key and fingerprint of every claim so far.
    #[must_use]
    pub fn claims(&self) -> Vec<(StoreKey, Fingerprint)> {
        lock(&self.claims).clone()
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
        lock(&self.claims).push((key, fingerprint));
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
