//! [`Claimed`]: a claimed key, and what becomes of the claim once the work is done.
//!
//! A claim is held by a lease, or is part of the transaction that the work is done in; whoever drives
//! the work need not know which.

use std::time::Duration;

use bytes::Bytes;

#[cfg(feature = "postgres")]
use super::transaction::InTransaction;
use super::{ask::Refusal, hand_over::HandOver, job::Job, renewal::Renewal, waiting::Waiting};
use crate::store::{BoxFuture, Claim, Hold};

/// A key that is this job's: nobody else runs while it is held.
///
/// Dropped before it has settled, it frees the key: its work has panicked, or its runtime is shut
/// down.
pub(crate) struct Claimed {
    job: Job,
    held: Held,
    is_settled: bool,
}

/// How a claim is held.
enum Held {
    /// `None` if it cannot be orphaned.
    ByLease(Option<Renewal>),
    #[cfg(feature = "postgres")]
    InTransaction(InTransaction),
}

/// What to keep of the work that was done.
pub(crate) enum Keep {
    /// This record: later requests with the key get it.
    Record(Bytes),
    /// It is done, and its answer is of a kind that is never kept. The key is free again, unless the
    /// work is part of the claim's transaction.
    Unstorable,
    /// Nothing: the key is free again, and what was done in a transaction is undone.
    Nothing,
}

/// How the caller is to be answered.
pub(crate) enum Settled {
    /// By its own work.
    Own,
    /// By what the key holds: the claim was lost meanwhile, so this caller is a duplicate.
    Stored(Bytes),
    Refused(Refusal),
}

impl Claimed {
    pub(super) fn new(job: Job, lease: Option<Duration>) -> Self {
        // Made first: where nothing can be renewed, outside a runtime, it frees the key.
        let mut claimed = Self { job, held: Held::ByLease(None), is_settled: false };
        claimed.held = Held::ByLease(lease.map(|lease| Renewal::start(&claimed.job, lease)));
        claimed
    }

    #[cfg(feature = "postgres")]
    pub(super) fn in_transaction(job: Job, transaction: InTransaction) -> Self {
        Self { job, held: Held::InTransaction(transaction), is_settled: false }
    }

    /// Drives `work`, which ends by [`settle`](Self::settle), to its end.
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

    /// To be awaited before the work: a thread that it blocks must not be the one that renews.
    pub(crate) async fn begin(&self) {
        if let Held::ByLease(Some(renewal)) = &self.held {
            renewal.begin().await;
        }
    }

    /// Stores what is to be kept, or releases the key; then the caller can be answered.
    pub(crate) async fn settle(&mut self, keep: Keep) -> Settled {
        let settled = match &mut self.held {
            Held::ByLease(renewal) => match keep {
                Keep::Nothing | Keep::Unstorable => {
                    self.job.release().await;
                    Settled::Own
                }
                Keep::Record(record) => match self.job.complete(&record).await {
                    Ok(Hold::Held) => Settled::Own,
                    Ok(Hold::Lost) => Box::pin(self.job.after_loss(record)).await,
                    Err(error) => {
                        tracing::debug!(
                            error = &error as &dyn std::error::Error,
                            "storing a response failed, trying again"
                        );
                        self.job.complete_in_background(record, renewal.take());
                        Settled::Own
                    }
                },
            },
            #[cfg(feature = "postgres")]
            Held::InTransaction(transaction) => Box::pin(transaction.settle(&self.job, keep)).await,
        };
        self.is_settled = true;
        settled
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        match &self.held {
            Held::ByLease(_) if self.is_settled => {}
            Held::ByLease(_) => self.job.release_without_waiting(),
            // It is rolled back, dropped with this.
            #[cfg(feature = "postgres")]
            Held::InTransaction(_) => {}
        }
    }
}

impl Job {
    /// The claim lapsed during the work, so this caller is a duplicate of whoever has it now.
    async fn after_loss(&self, record: Bytes) -> Settled {
        tracing::warn!(
            key = %self.attempt.key,
            "an idempotency claim was lost before its response was stored"
        );
        let mut waiting = Waiting::new(self);
        loop {
            match self.claim().await {
                Ok(Claim::Claimed { .. }) => match self.complete(&record).await {
                    Ok(Hold::Held) => return Settled::Own,
                    Ok(Hold::Lost) => {}
                    Err(_) => {
                        self.complete_in_background(record, None);
                        return Settled::Own;
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
                Err(_) => return Settled::Own,
            }
        }
    }
}
