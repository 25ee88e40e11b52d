//! [`Probe`]: wraps a real store, records its calls and makes them fail on demand.

use std::{
    collections::VecDeque,
    future::{Future, pending, poll_fn},
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use idempotent_runtime::{
    Attempt, Claim, Fingerprint, Forgotten, Hold, KeyState, Store, StoreError, StoreKey,
};

use crate::{Counter, Gate, lock};

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No fault.
    Works,
    /// The call fails, and nothing is done.
    Fails,
    /// The call reached no server.
    NotSent,
    /// The call is executed, but its answer is an error.
    FailsAfter,
    /// The call is not executed and never answers.
    Hangs,
    /// The call is executed but never answers.
    HangsAfter,
}

/// One method of the store.
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

    /// What happens to every call from now on for which [`next`](Self::next) sets nothing.
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
            // A waiter is counted once the store knows about it.
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
            Fault::NotSent => Err(StoreError::not_sent("injected")),
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

/// A wrapper around the store `S`. A clone is another handle to it.
#[derive(Debug, Clone, Default)]
pub struct Probe<S> {
    /// The wrapped store.
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
    /// Its `read`.
    pub read: Verb,
    /// Its `forget`.
    pub forget: Verb,
    claims: Arc<Mutex<Vec<(StoreKey, Fingerprint)>>>,
}

impl<S> Probe<S> {
    /// Wraps `store`.
    pub fn on(store: S) -> Self {
        let [claim, renew, complete, release, wait, read, forget] =
            std::array::from_fn(|_| Verb::default());
        let claims = Arc::default();
        Self { store, claim, renew, complete, release, wait, read, forget, claims }
    }

    /// What happens to every call of any method from now on for which [`Verb::next`] sets nothing.
    #[must_use]
    pub fn always(self, fault: Fault) -> Self {
        let Self { claim, renew, complete, release, wait, read, forget, .. } = &self;
        for verb in [claim, renew, complete, release, wait, read, forget] {
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
    async fn claim(&self, attempt: &Attempt, lease: Duration) -> Result<Claim, StoreError> {
        lock(&self.claims).push((attempt.key, attempt.fingerprint));
        self.claim.call(self.store.claim(attempt, lease)).await
    }

    async fn renew(&self, attempt: &Attempt, lease: Duration) -> Result<Hold, StoreError> {
        self.renew.call(self.store.renew(attempt, lease)).await
    }

    async fn complete(
        &self,
        attempt: &Attempt,
        record: Bytes,
        ttl: Duration,
    ) -> Result<Hold, StoreError> {
        self.complete.call(self.store.complete(attempt, record, ttl)).await
    }

    async fn release(&self, attempt: &Attempt) -> Result<(), StoreError> {
        self.release.call(self.store.release(attempt)).await
    }

    async fn wait(&self, key: StoreKey, at_most: Duration) {
        let wait = async {
            self.store.wait(key, at_most).await;
            Ok(())
        };
        let _ = self.wait.call(wait).await;
    }

    async fn read(&self, key: StoreKey) -> Result<KeyState, StoreError> {
        self.read.call(self.store.read(key)).await
    }

    async fn forget(&self, key: StoreKey, even_if_running: bool) -> Result<Forgotten, StoreError> {
        self.forget.call(self.store.forget(key, even_if_running)).await
    }
}
