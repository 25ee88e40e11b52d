//! What is done after the caller has its answer: storing and releasing, until the store lets it.
//!
//! All of it ends within one lease, by which time the store has freed the key itself, and there are
//! never more than [`MOST_TASKS`] in a process.

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
/// Before each release of a claim that was given up on: it may be made after the first of them.
const BEFORE_RELEASES: [Duration; 3] = [Duration::ZERO, FIRST_BACKOFF, MAX_BACKOFF];

/// How many tasks there are at the most. What is not done because of that, a lease makes good.
const MOST_TASKS: usize = 1024;
/// How many of them may be releases: a response that is not stored is dearer than a key that is
/// free a lease later.
const MOST_RELEASES: usize = 768;

static TASKS: AtomicUsize = AtomicUsize::new(0);

impl Job {
    /// Frees the key; if the store fails, keeps trying in the background.
    pub(super) async fn release(&self) {
        if let Err(error) = self.try_release().await {
            tracing::debug!(
                target: crate::TARGET,
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
        let (job, deadline) = (self.clone(), self.deadline());
        self.in_background(MOST_RELEASES, async move {
            job.repeat(deadline, || async { job.try_release().await.ok() }).await;
        });
    }

    /// Frees the key of a claim that was given up on. The call may still be on its way, or at work
    /// behind a lock, and no store lets a release wait for it: so it is made more than once.
    pub(super) fn release_given_up(&self) {
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

    /// Stores `record`, which was given to the store first at `first`: the caller has its response
    /// already.
    pub(super) fn complete_in_background(
        &self,
        record: Bytes,
        renewal: Option<Renewal>,
        first: Option<Moment>,
    ) {
        let (job, deadline) = (self.clone(), self.deadline());
        let has_begun = self.in_background(MOST_TASKS, async move {
            let complete = || async { job.complete_or_leave(&record, first).await.ok() };
            if let Some(decision) = job.repeat(deadline, complete).await {
                job.tell(decision, None, None);
                return;
            }
            job.tell(Decision::GivenUp, None, None);
            drop(renewal);
            // A claim without a lease would hold the key for ever. Nobody has to wait for this.
            tokio::spawn(async move { job.try_release().await });
        });
        if !has_begun {
            self.tell(Decision::GivenUp, None, None);
        }
    }

    /// Stores `record`, under a new claim if the first one lapsed while the store was out of reach.
    /// If somebody else holds the key by now, there is nothing left to do.
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

    /// One lease from now; `None` if that is past the end of the clock.
    fn deadline(&self) -> Option<Instant> {
        Instant::now().checked_add(self.engine.lease)
    }

    /// Repeats `attempt` until it succeeds, or until `deadline`: `None`.
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

    /// Does `work` in a task of its own; `false` if there is no room or no runtime for it.
    fn in_background(&self, most: usize, work: impl Future<Output = ()> + Send + 'static) -> bool {
        // No runtime is left only if the process ends: a lease frees the key then.
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

/// One of the [`MOST_TASKS`].
struct Place;

impl Place {
    /// `None` if `most` are taken.
    fn take(most: usize) -> Option<Self> {
        /// How often there was no place.
        static REFUSED: AtomicU64 = AtomicU64::new(0);

        let more = |tasks| Some(tasks + 1).filter(|tasks| *tasks <= most);
        if TASKS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok() {
            return Some(Self);
        }
        let refused = REFUSED.fetch_add(1, Ordering::Relaxed) + 1;
        // The first of each power of two, so that an outage does not fill the log.
        if refused.is_power_of_two() {
            tracing::warn!(
                target: crate::TARGET,
                refused,
                "too much is left to do in the background: keys stay claimed until their lease \
                 lapses"
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
