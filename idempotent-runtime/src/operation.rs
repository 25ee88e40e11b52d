//! One request's dealings with the store: time limits, second tries, work in the background.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use tokio::{task::JoinHandle, time::Instant};
use tracing::Instrument as _;

use crate::{
    idempotency::Settings,
    policy::Policy,
    record,
    store::{Attempt, Claim, Fingerprint, Hold, StoreError, StoreKey, Token},
};

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// Before each release of a claim that was given up on: it may be made after the first of them.
const BEFORE_RELEASES: [Duration; 3] = [Duration::ZERO, FIRST_BACKOFF, MAX_BACKOFF];

/// A request that has a key, and the token it claims that key with.
#[derive(Clone)]
pub(crate) struct Operation {
    pub(crate) settings: Arc<Settings>,
    pub(crate) policy: &'static Policy,
    pub(crate) attempt: Attempt,
}

impl Operation {
    pub(crate) fn new(
        settings: Arc<Settings>,
        policy: &'static Policy,
        key: StoreKey,
        fingerprint: Fingerprint,
    ) -> Self {
        Self { settings, policy, attempt: Attempt::new(key, fingerprint, Token::random()) }
    }

    /// Claims the key or reads it; a failed call is tried once more within the time limit.
    ///
    /// Where the answer does not come, the claim may have been made nevertheless: it is released
    /// in the background, also when the caller goes away while it waits for the answer.
    pub(crate) async fn claim(&self) -> Result<Claim, StoreError> {
        let release = ReleaseOnDrop(self);
        let claim = || {
            self.settings.store.claim(&self.attempt, self.settings.lease)
        };
        let twice = async {
            match claim().await {
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "claim failed, trying again"
                    );
                    claim().await
                }
                claim => claim,
            }
        };
        let claim = within(self.settings.store_timeout, pin!(twice)).await?;
        release.disarm();
        Ok(claim)
    }

    /// Waits until the key may have stopped running.
    pub(crate) async fn wait(&self, at_most: Duration) {
        let wait = self.settings.store.wait(self.attempt.key, at_most);
        // A store that does not keep its promise must not hold the caller.
        let _ = tokio::time::timeout(at_most, wait).await;
    }

    /// Stores `record` for the attribute's ttl; `false` where the claim was lost.
    pub(crate) async fn complete(&self, record: Bytes) -> Result<Hold, StoreError> {
        let complete = |record| {
            let call = self.settings.store.complete(&self.attempt, record, self.policy.ttl);
            within(self.settings.store_timeout, call)
        };
        match complete(record).await {
            Err(error) if error.is_too_large() => complete(record::not_stored()).await,
            result => result,
        }
    }

    /// Frees the key; where the store fails, goes on trying in the background.
    pub(crate) async fn release(&self) {
        if let Err(error) = self.try_release().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "releasing an idempotency key failed, trying again"
            );
            let operation = self.clone();
            self.in_background(async move { operation.release_with_backoff().await });
        }
    }

    async fn try_release(&self) -> Result<(), StoreError> {
        within(self.settings.store_timeout, self.settings.store.release(&self.attempt)).await
    }

    async fn release_with_backoff(&self) {
        self.with_backoff(|| async { self.try_release().await.is_ok() }).await;
    }

    /// Frees the key of a claim that was given up on. The call may be on its way still, or at work
    /// behind a lock, and no store lets a release wait for it: so it is made more than once.
    async fn release_given_up(&self) {
        for pause in BEFORE_RELEASES {
            tokio::time::sleep(pause).await;
            self.release_with_backoff().await;
        }
    }

    /// Stores `record` in the background: the caller has its response already.
    pub(crate) fn complete_in_background(&self, record: Bytes, lease: Option<Lease>) {
        let operation = self.clone();
        self.in_background(async move {
            let settled = operation
                .with_backoff(|| async { operation.try_complete(&record).await.unwrap_or(false) })
                .await;
            if !settled {
                tracing::error!(key = %operation.attempt.key, "a response could not be stored: a retry of its request runs again");
                // A claim without a lease would hold the key for ever.
                operation.release_with_backoff().await;
            }
            drop(lease);
        });
    }

    /// Stores `record`, under a claim made anew where the first one lapsed while the store was out
    /// of reach. `true` also where somebody else holds the key by now: there is nothing left to do.
    async fn try_complete(&self, record: &Bytes) -> Result<bool, StoreError> {
        if self.complete(record.clone()).await? == Hold::Held {
            return Ok(true);
        }
        let Settings { store, store_timeout, lease, .. } = &*self.settings;
        // Not by `Self::claim`: that would release this token where the answer does not come.
        let claim = store.claim(&self.attempt, *lease);
        match within(*store_timeout, claim).await? {
            Claim::Claimed { .. } => Ok(self.complete(record.clone()).await? == Hold::Held),
            Claim::Running { .. } | Claim::Stored { .. } => Ok(true),
        }
    }

    /// Repeats `attempt` until it succeeds, for one lease; whether it did.
    async fn with_backoff<F: Future<Output = bool>>(&self, attempt: impl Fn() -> F) -> bool {
        let deadline = Instant::now() + self.settings.lease;
        let mut backoff = FIRST_BACKOFF;
        loop {
            if attempt().await {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(backoff).await;
            backoff = MAX_BACKOFF.min(backoff * 2);
        }
    }

    fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        let guard = self.settings.in_flight.enter();
        let task = async move {
            let _guard = guard;
            work.await;
        };
        // No runtime is left only where the process ends: a lease frees the key then.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(task.in_current_span());
        }
    }

    /// Renews the claim at a third of its lease, in a task of its own, until it is dropped.
    pub(crate) fn keep(&self, lease: Duration) -> Lease {
        let operation = self.clone();
        let task = async move {
            // A store may grant less than was asked for; nothing is renewed without a pause.
            let third = (lease / 3).max(Duration::from_millis(1));
            let mut pause = third;
            loop {
                tokio::time::sleep(pause).await;
                let settings = &operation.settings;
                let renew = settings.store.renew(&operation.attempt, lease);
                match within(settings.store_timeout, renew).await {
                    Ok(Hold::Held) => pause = third,
                    Ok(Hold::Lost) => {
                        tracing::warn!(key = %operation.attempt.key, "an idempotency claim was lost while its handler runs");
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "renewing an idempotency claim failed"
                        );
                        pause = FIRST_BACKOFF.min(third);
                    }
                }
            }
        };
        Lease(tokio::spawn(task.in_current_span()))
    }
}

/// A claim that is being renewed.
pub(crate) struct Lease(JoinHandle<()>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Releases a claim of which nobody knows whether it was made.
struct ReleaseOnDrop<'a>(&'a Operation);

impl ReleaseOnDrop<'_> {
    fn disarm(self) {
        std::mem::forget(self);
    }
}

impl Drop for ReleaseOnDrop<'_> {
    fn drop(&mut self) {
        let operation = self.0.clone();
        self.0.in_background(async move { operation.release_given_up().await });
    }
}

/// Runs a store call within `limit`.
async fn within<T>(
    limit: Duration,
    mut call: impl Future<Output = Result<T, StoreError>> + Unpin,
) -> Result<T, StoreError> {
    // A store in memory answers at once: it needs no timer, and no room for one.
    if let Poll::Ready(result) = poll_fn(|cx| Poll::Ready(Pin::new(&mut call).poll(cx))).await {
        return result;
    }
    let in_time = Box::pin(tokio::time::timeout(limit, call));
    in_time.await.unwrap_or_else(|_| Err(StoreError::timed_out()))
}
