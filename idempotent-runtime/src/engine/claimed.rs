//! [`Claimed`]: a claimed key, and what happens to the claim once the work is done.
//!
//! A claim is either held by a lease or part of the transaction that the work is done in; the code
//! that drives the work need not know which.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

#[cfg(feature = "postgres")]
use super::transaction::InTransaction;
use super::{
    ask::Refusal, event::Decision, hand_over::HandOver, job::Job, near::Moment, record,
    renewal::Renewal, waiting::Waiting,
};
use crate::store::{BoxFuture, Claim, Hold};

/// A key that belongs to this job: nobody else runs while it is held.
///
/// If it is dropped before it has settled, it frees the key: the work has panicked, or its runtime
/// is shutting down.
pub(crate) struct Claimed {
    job: Job,
    held: Held,
    is_settled: bool,
    /// When it began, if anyone listens.
    since: Option<Instant>,
    /// The status of the response that the work returned.
    status: Option<u16>,
}

/// How a claim is held.
enum Held {
    /// `None` if it cannot be orphaned.
    ByLease(Option<Renewal>),
    #[cfg(feature = "postgres")]
    InTransaction(InTransaction),
}

/// What to keep of the finished work.
pub(crate) enum Keep {
    /// This record: later requests with the key get it.
    Record(Bytes),
    /// The work is done, but its answer is of a kind that is never kept. The key is free again,
    /// unless the work is part of the claim's transaction.
    Unstorable,
    /// Nothing: the key is free again, and what was done in a transaction is rolled back.
    Nothing,
}

/// What the caller gets.
pub(crate) enum Settled {
    /// The response of its own work.
    Own,
    /// What the key holds: the claim was lost in the meantime, so this caller is a duplicate.
    Stored(Bytes),
    Refused(Refusal),
}

/// How a run ended.
pub(super) struct Ended {
    settled: Settled,
    decision: Decision,
    /// What remains to be stored in the background, and the renewal of its claim.
    left: Option<(Bytes, Option<Renewal>)>,
}

impl Ended {
    pub(super) fn new(settled: Settled, decision: Decision) -> Self {
        Self { settled, decision, left: None }
    }

    pub(super) fn refused(refusal: Refusal) -> Self {
        Self::new(Settled::Refused(refusal), refusal.decision())
    }

    fn unstored(left: Option<(Bytes, Option<Renewal>)>) -> Self {
        Self { settled: Settled::Own, decision: Decision::Unstored, left }
    }
}

impl Claimed {
    pub(super) fn new(job: Job, lease: Option<Duration>) -> Self {
        // Created first: if nothing can be renewed because there is no runtime, it frees the key.
        let mut claimed = Self::held(job, Held::ByLease(None));
        claimed.held = Held::ByLease(lease.map(|lease| Renewal::start(&claimed.job, lease)));
        claimed
    }

    #[cfg(feature = "postgres")]
    pub(super) fn in_transaction(job: Job, transaction: InTransaction) -> Self {
        Self::held(job, Held::InTransaction(transaction))
    }

    fn held(job: Job, held: Held) -> Self {
        Self { since: job.engine.clock(), job, held, is_settled: false, status: None }
    }

    /// Drives `work`, which ends with [`settle`](Self::settle), to its end.
    pub(crate) fn run_to_end<T: Send + 'static>(
        self,
        work: impl FnOnce(Self) -> BoxFuture<'static, T>,
    ) -> HandOver<T> {
        let guard = self.job.engine.in_flight.run();
        let operation = self.job.attempt.operation_handle();
        HandOver::new(guard, operation, work(self))
    }

    /// Whether the claim is part of the transaction that the work is done in.
    pub(crate) fn is_in_transaction(&self) -> bool {
        !matches!(self.held, Held::ByLease(_))
    }

    /// Await this before the work: a thread that the work blocks must not be the one that renews.
    pub(crate) async fn begin(&self) {
        if let Held::ByLease(Some(renewal)) = &self.held {
            renewal.begin().await;
        }
    }

    /// Records the status of the response that the work returned, for listeners.
    pub(crate) fn answers_with(&mut self, status: u16) {
        self.status = Some(status);
    }

    /// Stores what is to be kept, or releases the key; then the caller can be answered.
    pub(crate) async fn settle(&mut self, keep: Keep) -> Settled {
        let run_time = self.since.map(|since| since.elapsed());
        let first = self.job.engine.near.moment();
        let Ended { settled, decision, left } = match &mut self.held {
            Held::ByLease(renewal) => match keep {
                Keep::Nothing | Keep::Unstorable => {
                    self.job.release().await;
                    Ended::new(Settled::Own, Decision::Released)
                }
                Keep::Record(mut record) => match self.job.complete(&mut record, first).await {
                    Ok(Hold::Held) => Ended::new(Settled::Own, record::decision(&record)),
                    Ok(Hold::Lost) => {
                        // No longer renewed, so nothing else reports the loss from here on.
                        let was_held = renewal.take().is_none_or(Renewal::end);
                        if was_held {
                            self.job.tell(Decision::ClaimLost, self.status, run_time);
                        }
                        Box::pin(self.job.after_loss(record, first)).await
                    }
                    Err(error) => {
                        tracing::debug!(
                            target: crate::TARGET,
                            error = &error as &dyn std::error::Error,
                            "storing a response failed, retrying"
                        );
                        Ended::unstored(Some((record, renewal.take())))
                    }
                },
            },
            #[cfg(feature = "postgres")]
            Held::InTransaction(transaction) => Box::pin(transaction.settle(&self.job, keep)).await,
        };
        self.is_settled = true;
        let status = match &settled {
            Settled::Own => self.status,
            Settled::Stored(answer) => (self.job.watch.status)(answer),
            Settled::Refused(_) => None,
        };
        self.job.tell(decision, status, run_time);
        match left {
            Some((record, renewal)) => {
                self.job.complete_in_background(record, renewal, first);
            }
            None if decision == Decision::Unstored => {
                self.job.tell(Decision::GivenUp, None, None);
            }
            None => {}
        }
        settled
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        match &self.held {
            Held::ByLease(_) => self.job.release_without_waiting(),
            // Dropped with this, which rolls it back.
            #[cfg(feature = "postgres")]
            Held::InTransaction(_) => {}
        }
        let run_time = self.since.map(|since| since.elapsed());
        self.job.tell(Decision::Released, None, run_time);
    }
}

impl Job {
    /// The claim lapsed during the work, so this caller is a duplicate of whoever holds it now.
    async fn after_loss(&mut self, mut record: Bytes, first: Option<Moment>) -> Ended {
        let since = Instant::now();
        let (mut has_waited, lost) = (false, self.clone());
        let mut waiting = Waiting::new(&lost);
        let settled = loop {
            let moment = lost.engine.near.moment();
            match lost.claim().await {
                Ok(Claim::Claimed { .. }) => match lost.complete(&mut record, first).await {
                    Ok(Hold::Held) => break Ended::new(Settled::Own, record::decision(&record)),
                    Ok(Hold::Lost) => {}
                    Err(_) => break Ended::unstored(Some((record, None))),
                },
                Ok(Claim::Running { fingerprint, lease_left }) => {
                    has_waited = true;
                    if let Err(refusal) = waiting.wait(fingerprint, lease_left).await {
                        break Ended::refused(refusal);
                    }
                }
                Ok(Claim::Stored { fingerprint, record, expires_in }) => {
                    break match lost.answer_in(fingerprint, record) {
                        Ok(answer) => {
                            lost.copy_replayed(moment, &answer, expires_in);
                            let replayed = Decision::Replayed(lost.source());
                            Ended::new(Settled::Stored(answer), replayed)
                        }
                        Err(refusal) => Ended::refused(refusal),
                    };
                }
                Err(_) => break Ended::unstored(None),
            }
        };
        if has_waited {
            self.watch.has_waited(since.elapsed());
        }
        settled
    }
}
