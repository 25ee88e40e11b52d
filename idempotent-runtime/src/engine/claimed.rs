//! [`Claimed`]: the work of a claimed key, and what becomes of the claim.

use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;

use super::{ask::Refusal, hand_over::HandOver, job::Job, renewal::Renewal, waiting::Waiting};
use crate::store::{Claim, Hold};

/// A key that is this job's: nobody else runs while it is held.
///
/// Dropped before it has settled (its runtime is shut down, say), it frees the key.
pub(crate) struct Claimed {
    job: Job,
    lease: Option<Duration>,
    is_settled: bool,
}

/// What to keep of the work that was done.
pub(crate) enum Keep {
    /// This record: later requests with the key get it.
    Record(Bytes),
    /// Nothing: the key is free again.
    Nothing,
}

/// How the caller is to be answered.
pub(crate) enum Settled<T> {
    /// By its own work.
    Own(T),
    /// By what the key holds: the claim was lost meanwhile, so this caller is a duplicate.
    Stored(Bytes),
    Refused(Refusal),
}

impl Claimed {
    pub(super) fn new(job: Job, lease: Option<Duration>) -> Self {
        Self { job, lease, is_settled: false }
    }

    /// Does `work` to its end, and stores what is to be kept of it before it gives the answer, or
    /// releases the key. A panic releases it as well.
    pub(crate) fn settle<T: Send + 'static>(
        self,
        work: impl Future<Output = (Keep, T)> + Send + 'static,
    ) -> HandOver<Settled<T>> {
        let guard = self.job.engine.in_flight.enter();
        HandOver::new(guard, Box::pin(self.do_and_settle(work)))
    }

    async fn do_and_settle<T>(mut self, work: impl Future<Output = (Keep, T)>) -> Settled<T> {
        let renewal = self.lease.map(|lease| Renewal::start(&self.job, lease));
        let done = catching_panics(pin!(work)).await;
        let settled = match done {
            Ok((Keep::Record(record), answer)) => match self.job.complete(record.clone()).await {
                Ok(Hold::Held) => Settled::Own(answer),
                Ok(Hold::Lost) => Box::pin(self.job.after_loss(record, answer)).await,
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "storing a response failed, trying again"
                    );
                    self.job.complete_in_background(record, renewal);
                    Settled::Own(answer)
                }
            },
            Ok((Keep::Nothing, answer)) => {
                self.job.release().await;
                Settled::Own(answer)
            }
            Err(panic) => {
                self.job.release().await;
                self.is_settled = true;
                resume_unwind(panic)
            }
        };
        self.is_settled = true;
        settled
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if !self.is_settled {
            self.job.release_in_background();
        }
    }
}

impl Job {
    /// The claim lapsed during the work, so this caller is a duplicate of whoever has it now.
    async fn after_loss<T>(&self, record: Bytes, answer: T) -> Settled<T> {
        tracing::warn!(
            key = %self.attempt.key,
            "an idempotency claim was lost before its response was stored"
        );
        let mut waiting = Waiting::new(self);
        loop {
            match self.claim().await {
                Ok(Claim::Claimed { .. }) => match self.complete(record.clone()).await {
                    Ok(Hold::Held) => return Settled::Own(answer),
                    Ok(Hold::Lost) => {}
                    Err(_) => {
                        self.complete_in_background(record, None);
                        return Settled::Own(answer);
                    }
                },
                Ok(Claim::Running { fingerprint, lease_left }) => {
                    if let Err(refusal) = waiting.wait(fingerprint, lease_left).await {
                        return Settled::Refused(refusal);
                    }
                }
                Ok(Claim::Stored { fingerprint, record, .. }) => {
                    let stored = self.answer_in(fingerprint, record);
                    return stored.map_or_else(Settled::Refused, Settled::Stored);
                }
                Err(_) => return Settled::Own(answer),
            }
        }
    }
}

/// Runs `future` to its end, or to its panic.
async fn catching_panics<T>(
    mut future: Pin<&mut impl Future<Output = T>>,
) -> Result<T, Box<dyn Any + Send>> {
    // Unwind safe: after a panic the future is dropped, never polled again.
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}
