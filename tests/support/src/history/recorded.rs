//! [`Recorded`]: a store that records what it is asked and what it answers.

use std::time::Duration;

use bytes::Bytes;
use idempotent_runtime::{Attempt, Claim, Forgotten, Hold, KeyState, Store, StoreError, StoreKey};

use super::{Asked, Recorder, Told};

/// The text of an error about a call that certainly reached no server.
const NOT_SENT: &str = "the idempotency store could not be reached";

/// The store of one instance. A clone belongs to the same instance.
///
/// Each call costs two short locks in addition to what the store does.
#[derive(Debug, Clone)]
pub struct Recorded<S> {
    pub(super) store: S,
    pub(super) instance: usize,
    pub(super) recorder: Recorder,
}

impl<S> Recorded<S> {
    async fn call<T>(
        &self,
        key: StoreKey,
        asked: Asked,
        call: impl Future<Output = Result<T, StoreError>>,
        told: impl FnOnce(&T) -> Told,
    ) -> Result<T, StoreError> {
        let mut begun = self.recorder.begin(self.instance, key, asked);
        let answer = call.await;
        begun.told = match &answer {
            Ok(answer) => Some(told(answer)),
            Err(error) if error.to_string() == NOT_SENT => Some(Told::NotSent),
            Err(_) => None,
        };
        answer
    }
}

#[deny(clippy::missing_trait_methods, reason = "a verb that is not recorded is not checked")]
impl<S: Store> Store for Recorded<S> {
    async fn claim(&self, attempt: &Attempt, lease: Duration) -> Result<Claim, StoreError> {
        let asked = Asked::Claim(attempt.into());
        let call = self.store.claim(attempt, lease);
        let told = |claim: &Claim| match claim {
            Claim::Claimed { .. } => Told::Claimed,
            Claim::Running { fingerprint, .. } => Told::Running(*fingerprint),
            Claim::Stored { fingerprint, record, .. } => Told::Stored(*fingerprint, record.clone()),
            claim => panic!("the model does not know {claim:?}"),
        };
        self.call(attempt.key, asked, call, told).await
    }

    async fn renew(&self, attempt: &Attempt, lease: Duration) -> Result<Hold, StoreError> {
        let asked = Asked::Renew(attempt.into());
        self.call(attempt.key, asked, self.store.renew(attempt, lease), |&hold| told_of_hold(hold))
            .await
    }

    async fn complete(
        &self,
        attempt: &Attempt,
        record: Bytes,
        ttl: Duration,
    ) -> Result<Hold, StoreError> {
        let asked = Asked::Complete(attempt.into(), record.clone());
        let call = self.store.complete(attempt, record, ttl);
        self.call(attempt.key, asked, call, |&hold| told_of_hold(hold)).await
    }

    async fn release(&self, attempt: &Attempt) -> Result<(), StoreError> {
        let asked = Asked::Release(attempt.into());
        self.call(attempt.key, asked, self.store.release(attempt), |()| Told::Done).await
    }

    async fn wait(&self, key: StoreKey, at_most: Duration) {
        let wait = async {
            self.store.wait(key, at_most).await;
            Ok(())
        };
        let _ = self.call(key, Asked::Wait, wait, |()| Told::Done).await;
    }

    async fn read(&self, key: StoreKey) -> Result<KeyState, StoreError> {
        let told = |state: &KeyState| match state {
            KeyState::Absent => Told::Absent,
            KeyState::Running { fingerprint, .. } => Told::Running(*fingerprint),
            KeyState::Stored { fingerprint, record, .. } => {
                Told::Stored(*fingerprint, record.clone())
            }
            state => panic!("the model does not know {state:?}"),
        };
        self.call(key, Asked::Read, self.store.read(key), told).await
    }

    async fn forget(&self, key: StoreKey, even_if_running: bool) -> Result<Forgotten, StoreError> {
        let told = |forgotten: &Forgotten| match forgotten {
            Forgotten::Freed => Told::Freed,
            Forgotten::Absent => Told::Absent,
            Forgotten::StillRunning { .. } => Told::StillRunning,
            forgotten => panic!("the model does not know {forgotten:?}"),
        };
        let asked = Asked::Forget { even_if_running };
        self.call(key, asked, self.store.forget(key, even_if_running), told).await
    }
}

fn told_of_hold(hold: Hold) -> Told {
    match hold {
        Hold::Held => Told::Held,
        Hold::Lost => Told::Lost,
    }
}
