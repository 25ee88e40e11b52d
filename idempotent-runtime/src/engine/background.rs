//! What is done after the caller has its answer: storing and releasing, until the store lets it.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::{job::Job, renewal::Renewal};
use crate::store::{Claim, Hold, StoreError};

pub(super) const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// Before each release of a claim that was given up on: it may be made after the first of them.
const BEFORE_RELEASES: [Duration; 3] = [Duration::ZERO, FIRST_BACKOFF, MAX_BACKOFF];

impl Job {
    /// Frees the key; if the store fails, keeps trying in the background.
    pub(super) async fn release(&self) {
        if let Err(error) = self.try_release().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "releasing an idempotency key failed, trying again"
            );
            self.release_in_background();
        }
    }

    /// Frees the key of a run that ended before it could settle.
    pub(super) fn release_without_waiting(&self) {
        if self.engine.store.release_at_once(&self.attempt).is_none() {
            self.release_in_background();
        }
    }

    fn release_in_background(&self) {
        let job = self.clone();
        self.in_background(async move { job.release_with_backoff().await });
    }

    /// Frees the key of a claim that was given up on. The call may still be on its way, or at work
    /// behind a lock, and no store lets a release wait for it: so it is made more than once.
    pub(super) fn release_given_up(&self) {
        let job = self.clone();
        self.in_background(async move {
            for pause in BEFORE_RELEASES {
                tokio::time::sleep(pause).await;
                job.release_with_backoff().await;
            }
        });
    }

    async fn release_with_backoff(&self) {
        self.with_backoff(|| async { self.try_release().await.is_ok() }).await;
    }

    /// Stores `record`: the caller has its response already.
    pub(super) fn complete_in_background(&self, record: Bytes, renewal: Option<Renewal>) {
        let job = self.clone();
        self.in_background(async move {
            let settled = job
                .with_backoff(|| async { job.complete_or_leave(&record).await.unwrap_or(false) })
                .await;
            if !settled {
                tracing::error!(
                    key = %job.attempt.key,
                    "a response could not be stored: a retry of its request runs again"
                );
                // A claim without a lease would hold the key for ever.
                job.release_with_backoff().await;
            }
            drop(renewal);
        });
    }

    /// Stores `record`, under a new claim if the first one lapsed while the store was out of reach.
    /// `true` also if somebody else holds the key by now: there is nothing left to do.
    async fn complete_or_leave(&self, record: &Bytes) -> Result<bool, StoreError> {
        if self.complete(record).await? == Hold::Held {
            return Ok(true);
        }
        match self.claim_again().await? {
            Claim::Claimed { .. } => Ok(self.complete(record).await? == Hold::Held),
            Claim::Running { .. } | Claim::Stored { .. } => Ok(true),
        }
    }

    /// Repeats `attempt` until it succeeds, for one lease; whether it did.
    async fn with_backoff<F: Future<Output = bool>>(&self, attempt: impl Fn() -> F) -> bool {
        // A lease past the end of the clock has no deadline.
        let deadline = Instant::now().checked_add(self.engine.lease);
        let mut backoff = FIRST_BACKOFF;
        loop {
            if attempt().await {
                return true;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return false;
            }
            tokio::time::sleep(backoff).await;
            backoff = MAX_BACKOFF.min(backoff * 2);
        }
    }

    fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        let guard = self.engine.in_flight.enter();
        let task = async move {
            let _guard = guard;
            work.await;
        };
        // No runtime is left only if the process ends: a lease frees the key then.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(task.in_current_span());
        }
    }
}
