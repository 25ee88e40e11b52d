//! [`Probe`]: a [`FailingStore`] whose calls a test can wait for and hold up.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use idempotent_runtime::{
    Attempt, Claim, Fingerprint, Forgotten, Hold, KeyState, Store, StoreError, StoreKey,
    testing::{self, FailingStore, Fault},
};

use crate::{Counter, Gate, lock};

/// One method of the store.
#[derive(Debug, Clone)]
pub struct Verb {
    /// Calls that have begun; counted once they wait for something or are done.
    pub begun: Counter,
    /// Calls that have ended, or were dropped.
    pub ended: Counter,
    faults: testing::Verb,
    held: Arc<Mutex<Option<Gate>>>,
}

impl Verb {
    fn new(faults: &testing::Verb) -> Self {
        let [begun, ended] = [Counter::default(), Counter::default()];
        Self { begun, ended, faults: faults.clone(), held: Arc::default() }
    }

    /// What happens to the next calls, in order.
    pub fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.next(faults);
    }

    /// What happens to every call from now on for which [`next`](Self::next) sets nothing.
    pub fn always(&self, fault: Fault) {
        self.faults.always(fault);
    }

    /// Every call from now on stops at this gate, before anything is done.
    #[must_use]
    pub fn hold(&self) -> Gate {
        lock(&self.held).get_or_insert_default().clone()
    }

    async fn call<T>(&self, call: impl Future<Output = T>) -> T {
        let _ended = self.ended.add_on_drop();
        let held = lock(&self.held).clone();
        if let Some(gate) = held {
            gate.pass().await;
        }
        let mut call = pin!(call);
        // A waiter is counted once the store knows about it.
        let first = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
        self.begun.add();
        match first {
            Poll::Ready(answer) => answer,
            Poll::Pending => call.await,
        }
    }
}

/// A wrapper around the store `S`. A clone is another handle to it.
#[derive(Debug, Clone)]
pub struct Probe<S> {
    /// The wrapped store.
    pub store: Arc<S>,
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
    failing: FailingStore<Arc<S>>,
    claims: Arc<Mutex<Vec<(StoreKey, Fingerprint)>>>,
}

impl<S> Probe<S> {
    /// Wraps `store`.
    pub fn on(store: S) -> Self {
        let store = Arc::new(store);
        let failing = FailingStore::new(Arc::clone(&store));
        Self {
            store,
            claim: Verb::new(&failing.claim),
            renew: Verb::new(&failing.renew),
            complete: Verb::new(&failing.complete),
            release: Verb::new(&failing.release),
            wait: Verb::new(&failing.wait),
            read: Verb::new(&failing.read),
            forget: Verb::new(&failing.forget),
            failing,
            claims: Arc::default(),
        }
    }

    /// What happens to every call of any method from now on for which [`Verb::next`] sets nothing.
    #[must_use]
    pub fn always(self, fault: Fault) -> Self {
        self.failing.always(fault);
        self
    }

    /// Key and fingerprint of every claim so far.
    #[must_use]
    pub fn claims(&self) -> Vec<(StoreKey, Fingerprint)> {
        lock(&self.claims).clone()
    }
}

impl<S: Default> Default for Probe<S> {
    fn default() -> Self {
        Self::on(S::default())
    }
}

impl<S: Store> Store for Probe<S> {
    async fn claim(&self, attempt: &Attempt, lease: Duration) -> Result<Claim, StoreError> {
        lock(&self.claims).push((attempt.key, attempt.fingerprint));
        self.claim.call(self.failing.claim(attempt, lease)).await
    }

    async fn renew(&self, attempt: &Attempt, lease: Duration) -> Result<Hold, StoreError> {
        self.renew.call(self.failing.renew(attempt, lease)).await
    }

    async fn complete(
        &self,
        attempt: &Attempt,
        record: Bytes,
        ttl: Duration,
    ) -> Result<Hold, StoreError> {
        self.complete.call(self.failing.complete(attempt, record, ttl)).await
    }

    async fn release(&self, attempt: &Attempt) -> Result<(), StoreError> {
        self.release.call(self.failing.release(attempt)).await
    }

    async fn wait(&self, key: StoreKey, at_most: Duration) {
        self.wait.call(self.failing.wait(key, at_most)).await;
    }

    async fn read(&self, key: StoreKey) -> Result<KeyState, StoreError> {
        self.read.call(self.failing.read(key)).await
    }

    async fn forget(&self, key: StoreKey, even_if_running: bool) -> Result<Forgotten, StoreError> {
        self.forget.call(self.failing.forget(key, even_if_running)).await
    }
}
