//! Settles work in a transaction: records and commits it, or rolls it back.

use std::future::Future;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{PAUSE, turns::Ticket};
use crate::{
    engine::{
        ask::Refusal,
        claimed::{Ended, Keep, Settled},
        event::{Decision, StoreVerb},
        job::Job,
        record,
        settings::Engine,
    },
    failpoint::failpoint,
    store::{
        Claim, Slot, StoreError, jittered,
        postgres::{Failure, Fate, Transaction},
    },
};

/// A claim that is part of a transaction. Dropping it before it has settled rolls it back.
pub(in crate::engine) struct InTransaction {
    slot: Slot,
    /// The turn of this claim, until it has ended.
    turn: Option<Ticket>,
}

impl InTransaction {
    pub(super) fn new(slot: Slot, turn: Ticket) -> Self {
        Self { slot, turn: Some(turn) }
    }

    /// Commits with what is to be kept, or rolls back.
    pub(in crate::engine) async fn settle(&mut self, job: &Job, keep: Keep) -> Ended {
        let ended = match (self.slot.end(), keep) {
            (None, _) => Err(still_in_use()),
            (Some(transaction), Keep::Nothing) => job.roll_back(*transaction).await,
            (Some(transaction), Keep::Record(record)) => job.store(*transaction, record).await,
            (Some(transaction), Keep::Unstorable) => {
                job.store(*transaction, record::not_stored()).await
            }
        };
        // After a commit everyone who waits has something to see; after a rollback, one of them is
        // next.
        if let Some(turn) = self.turn.take()
            && ended.is_ok_and(|decision| decision != Decision::Released)
        {
            turn.end();
        }
        ended.map_or_else(Ended::refused, |decision| Ended::new(Settled::Own, decision))
    }
}

impl Drop for InTransaction {
    fn drop(&mut self) {
        drop(self.slot.end());
    }
}

pub(super) fn still_in_use() -> Refusal {
    tracing::error!(
        target: crate::TARGET,
        "a `Tx` outlived its handler, so its transaction cannot be committed: do not move it into \
         a task. It is rolled back once it is dropped, which frees its key"
    );
    Refusal::TransactionFailed
}

impl Job {
    /// Commits with `record`.
    async fn store(
        &self,
        mut transaction: Transaction,
        mut record: Bytes,
    ) -> Result<Decision, Refusal> {
        let Self { engine, attempt, .. } = self;
        let moment = engine.near.moment();
        let recorded = match self.record(&mut transaction, &record).await {
            Err(Failure::Lasting(error)) if error.is_too_large() => {
                record = record::not_stored();
                self.record(&mut transaction, &record).await
            }
            recorded => recorded,
        };
        if let Err(failure) = recorded {
            return self.failed(transaction, failure).await;
        }
        let store = engine.transactional();
        let timed = self.timed(StoreVerb::Commit);
        timed.end(engine.commit(transaction, || store.fate_of_attempt(attempt)).await)?;
        self.copy_stored(moment, &record);
        Ok(record::decision(&record))
    }

    async fn record(&self, transaction: &mut Transaction, record: &Bytes) -> Result<(), Failure> {
        let Self { engine, attempt, ttl, .. } = self;
        let record = engine.write_record(attempt, record).map_err(Failure::Passing)?;
        let timed = self.timed(StoreVerb::Complete);
        timed.end(engine.before_commit(transaction.record(attempt, &record, *ttl)).await)
    }

    /// Rolls back.
    async fn roll_back(&self, mut transaction: Transaction) -> Result<Decision, Refusal> {
        let checked = self.engine.before_commit(transaction.check()).await;
        if let Err(Failure::Ended) = checked {
            return self.failed(transaction, Failure::Ended).await;
        }
        self.engine.roll_back(transaction).await;
        Ok(Decision::Released)
    }

    /// Frees the key, or records that it must not run again.
    async fn failed(
        &self,
        transaction: Transaction,
        failure: Failure,
    ) -> Result<Decision, Refusal> {
        match &failure {
            Failure::Ended => {
                // Closes the connection: if the handler has begun another transaction, that must
                // not be committed.
                drop(transaction);
                self.note_unknown().await;
            }
            // A silent server is not waited for a second time.
            Failure::Passing(error) if error.is_timed_out() => drop(transaction),
            _ => self.engine.roll_back(transaction).await,
        }
        Err(refusal(&failure))
    }

    /// Keeps the key from running again. If the handler committed, the row already says so; if it
    /// rolled back, what it did afterwards is there but the row is not.
    async fn note_unknown(&self) {
        let note = async {
            loop {
                match self.claim().await {
                    Ok(Claim::Claimed { .. }) => {
                        break drop(self.complete(&mut record::unknown(), None).await);
                    }
                    // The connection whose transaction has the key is being closed.
                    Ok(Claim::Running { fingerprint: None, .. }) => sleep(jittered(PAUSE)).await,
                    _ => break,
                }
            }
        };
        let _ = timeout(self.engine.store_timeout, note).await;
    }
}

/// Logs why a transaction was not committed.
pub(super) fn refusal(failure: &Failure) -> Refusal {
    match failure {
        Failure::Passing(error) | Failure::Unanswered(error) => {
            tracing::warn!(
                target: crate::TARGET,
                error = error as &dyn std::error::Error,
                "a request's transaction was rolled back and may succeed if retried"
            );
            Refusal::RolledBack
        }
        Failure::Lasting(error) => {
            tracing::error!(
                target: crate::TARGET,
                error = error as &dyn std::error::Error,
                "a request's transaction could not be committed"
            );
            Refusal::TransactionFailed
        }
        Failure::Ended => {
            tracing::error!(
                target: crate::TARGET,
                "a handler ended the transaction of its `Tx`, so it is unknown whether it took \
                 effect: leave `COMMIT` and `ROLLBACK` to the library, and use `tx.begin()` for \
                 savepoints"
            );
            Refusal::TransactionFailed
        }
    }
}

impl Engine {
    /// A call before the commit: if it takes too long, the transaction is over.
    pub(super) async fn before_commit<T>(
        &self,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let in_time = timeout(self.store_timeout, call).await;
        in_time.unwrap_or_else(|_| Err(Failure::Passing(StoreError::timed_out())))
    }

    /// Rolls back. If that fails, the connection is closed, which has the same effect.
    pub(super) async fn roll_back(&self, transaction: Transaction) {
        let _ = timeout(self.store_timeout, transaction.roll_back()).await;
    }

    /// Commits; if the answer is lost, asks whether it was committed. Both together take no longer
    /// than any other call.
    pub(super) async fn commit<F>(
        &self,
        transaction: Transaction,
        fate: impl Fn() -> F,
    ) -> Result<(), Refusal>
    where
        F: Future<Output = Result<Fate, StoreError>>,
    {
        failpoint("tx-before-commit");
        let deadline = Instant::now() + self.store_timeout;
        let committed = timeout(self.store_timeout / 2, transaction.commit()).await;
        match committed.unwrap_or_else(|_| Err(Failure::Unanswered(StoreError::timed_out()))) {
            Ok(()) => {
                failpoint("tx-after-commit");
                Ok(())
            }
            Err(Failure::Unanswered(error)) => {
                tracing::warn!(
                    target: crate::TARGET,
                    error = &error as &dyn std::error::Error,
                    "the answer to a commit was lost, asking whether it was committed"
                );
                Self::resolve(deadline, fate).await
            }
            Err(failure) => Err(refusal(&failure)),
        }
    }

    async fn resolve<F>(deadline: Instant, fate: impl Fn() -> F) -> Result<(), Refusal>
    where
        F: Future<Output = Result<Fate, StoreError>>,
    {
        let mut refusal = Refusal::StoreUnavailable;
        let ask = async {
            loop {
                match fate().await {
                    Ok(Fate::Committed) => return Ok(()),
                    Ok(Fate::RolledBack) => return Err(Refusal::RolledBack),
                    Ok(Fate::Open) => refusal = Refusal::RequestInProgress,
                    Err(_) => refusal = Refusal::StoreUnavailable,
                }
                sleep(jittered(PAUSE)).await;
            }
        };
        let in_time = timeout_at(deadline, ask).await;
        in_time.unwrap_or(Err(refusal))
    }
}
