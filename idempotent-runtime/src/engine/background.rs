//! What is done after the caller has its answer: storing and releasing, until the store accepts it.
//!
//! All of it ends within one lease, by which time the store has freed the key itself, and a process
//! never runs more than [`MOST_TASKS`] of these tasks.

use std::{
    future::Future,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::Instrument as _;

use super::{event::Decision, job::Job, near::Moment, renewal::Renewal};
use crate::store::{Claim, Hold, StoreError, jittered};

pub(super) const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// The pauses before each release of an abandoned claim, since the claim may still be made after
/// the first release.
const BEFORE_RELEASES: [Duration; 3] = [Duration::ZERO, FIRST_BACKOFF, MAX_BACKOFF];

/// The maximum number of tasks. Whatever is skipped because of it is resolved when the lease
/// lapses.
const MOST_TASKS: usize = 1024;
/// How many of them may be releases: losing a response costs more than a key that is freed one
/// lease later.
const MOST_RELEASES: usize = 768;

static TASKS: AtomicUsize = AtomicUsize::new(0);

impl Job {
    /// Frees the key. If the store fails, retries in the background.
    pub(super) async fn release(&self) {
        if let Err(error) = self.try_release().await {
            tracing::debug!(
                target: crate::TARGET,
                error = &error as &dyn std::error::Error,
                "releasing an idempotency key failed, retrying"
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
        let (job, deadline) = (self.clone(), self.deadline());
        self.in_background(MOST_RELEASES, async move {
            job.repeat(deadline, || async { job.try_release().await.ok() }).await;
        });
    }

    /// Frees the key of an abandoned claim. The call may still be on its way, or waiting for a
    /// lock, and no store makes a release wait for it, so the release is repeated.
    pub(super) fn release_given_up(&self) {
        // A store in this process stops working on a call that is dropped.
        if self.engine.store.release_at_once(&self.attempt).is_some() {
            return;
        }
        let (job, deadline) = (self.clone(), self.deadline());
        self.in_background(MOST_RELEASES, async move {
            for pause in BEFORE_RELEASES {
                sleep(jittered(pause)).await;
                if job.repeat(deadline, || async { job.try_release().await.ok() }).await.is_none() {
                    break;
                }
            }
        });
    }

    /// Stores `record`, first passed to the store at `first`, after its caller has got the
    /// response.
    pub(super) fn complete_in_background(
        &self,
        record: Bytes,
        renewal: Option<Renewal>,
        first: Option<Moment>,
    ) {
        let (job, deadline) = (self.clone(), self.deadline());
        let freed = FreedAtOnce(self.clone());
        let has_begun = self.in_background(MOST_TASKS, async move {
            let _freed = freed;
            let complete = || async { job.complete_or_leave(&record, first).await.ok() };
            if let Some(decision) = job.repeat(deadline, complete).await {
                job.tell(decision, None, None);
                return;
            }
            job.tell(Decision::GivenUp, None, None);
            drop(renewal);
            // A claim without a lease would hold the key forever. Nobody has to wait for this.
            tokio::spawn(async move { job.try_release().await });
        });
        if !has_begun {
            self.tell(Decision::GivenUp, None, None);
        }
    }

    /// Stores `record`, under a new claim if the first one lapsed while the store was unreachable.
    /// If someone else holds the key by now, there is nothing left to do.
    async fn complete_or_leave(
        &self,
        record: &Bytes,
        first: Option<Moment>,
    ) -> Result<Decision, StoreError> {
        let mut record = record.clone();
        loop {
            if self.complete(&mut record, first).await? == Hold::Held {
                return Ok(Decision::StoredLate);
            }
            match self.claim_again().await? {
                Claim::Claimed { .. } => {}
                Claim::Running { .. } | Claim::Stored { .. } => return Ok(Decision::ClaimLost),
            }
        }
    }

    /// One lease from now; `None` if that is beyond the range of the clock.
    fn deadline(&self) -> Option<Instant> {
        Instant::now().checked_add(self.engine.lease)
    }

    /// Repeats `attempt` until it succeeds; `None` if `deadline` comes first.
    async fn repeat<T, F: Future<Output = Option<T>>>(
        &self,
        deadline: Option<Instant>,
        attempt: impl Fn() -> F,
    ) -> Option<T> {
        let repeated = async {
            let mut backoff = FIRST_BACKOFF;
            loop {
                if let Some(done) = attempt().await {
                    break done;
                }
                sleep(jittered(backoff)).await;
                backoff = MAX_BACKOFF.min(backoff * 2);
            }
        };
        match deadline {
            Some(deadline) => timeout_at(deadline, repeated).await.ok(),
            None => Some(repeated.await),
        }
    }

    /// Runs `work` in its own task; `false` if there is no room or no runtime for it.
    fn in_background(&self, most: usize, work: impl Future<Output = ()> + Send + 'static) -> bool {
        // There is no runtime only if the process is ending; then the key is freed when the lease
        // lapses.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return false };
        let Some(place) = Place::take(most) else { return false };
        let guard = self.engine.in_flight.background();
        let task = async move {
            let _held = (place, guard);
            work.await;
        };
        runtime.spawn(task.in_current_span());
        true
    }
}

/// A claim without a lease, held in this process: released on drop unless its record has been
/// stored by then. The task that holds it may never start, or may end with its runtime.
struct FreedAtOnce(Job);

impl Drop for FreedAtOnce {
    fn drop(&mut self) {
        self.0.engine.store.release_at_once(&self.0.attempt);
    }
}

/// One of the [`MOST_TASKS`] places.
struct Place;

impl Place {
    /// `None` if `most` places are taken.
    fn take(most: usize) -> Option<Self> {
        /// How often there was no place.
        static REFUSED: AtomicU64 = AtomicU64::new(0);

        let more = |tasks| Some(tasks + 1).filter(|tasks| *tasks <= most);
        if TASKS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok() {
            return Some(Self);
        }
        let refused = REFUSED.fetch_add(1, Ordering::Relaxed) + 1;
        // Only at powers of two, so that an outage does not flood the log.
        if refused.is_power_of_two() {
            tracing::warn!(
                target: crate::TARGET,
                refused,
                "too much background work is pending: keys stay claimed until their lease lapses"
            );
        }
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        TASKS.fetch_sub(1, Ordering::Relaxed);
    }
}
