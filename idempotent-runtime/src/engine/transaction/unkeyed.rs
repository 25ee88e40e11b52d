//! [`Unkeyed`]: work without a key in a transaction.

use std::sync::Arc;

use super::settle::{refusal, still_in_use};
use crate::{
    engine::{ask::Refusal, event::StoreVerb, settings::Engine},
    failpoint::failpoint,
    store::{
        Slot,
        postgres::{Failure, Fate},
    },
};

/// A transaction without a claim. Dropping it before it has settled rolls it back.
pub(crate) struct Unkeyed {
    engine: Arc<Engine>,
    slot: Slot,
    operation: Option<Arc<str>>,
}

impl Unkeyed {
    /// Begins a transaction, which is then in `slot`.
    pub(crate) async fn begin(
        engine: Arc<Engine>,
        slot: Slot,
        operation: Option<Arc<str>>,
    ) -> Result<Self, Refusal> {
        let timed = engine.timed(StoreVerb::Begin, operation.as_deref(), None);
        match timed.end(engine.begin(&slot, None).await) {
            Ok(transaction) => slot.open(transaction),
            Err(refusal) => {
                engine.tell_refused(operation.as_deref(), refusal);
                return Err(refusal);
            }
        }
        failpoint("tx-after-claim");
        Ok(Self { engine, slot, operation })
    }

    /// Commits, or rolls back.
    pub(crate) async fn settle(self, is_committed: bool) -> Result<(), Refusal> {
        let ended = self.end(is_committed).await;
        let (engine, operation) = (&self.engine, self.operation.as_deref());
        match ended {
            Ok(()) => engine.tell_without_key(operation),
            Err(refusal) => engine.tell_refused(operation, refusal),
        }
        ended
    }

    async fn end(&self, is_committed: bool) -> Result<(), Refusal> {
        let engine = &self.engine;
        let Some(mut transaction) = self.slot.end() else { return Err(still_in_use()) };
        let checked = engine.before_commit(transaction.check()).await;
        match checked {
            Ok(id) if is_committed => {
                let store = engine.transactional();
                let fate = || async {
                    match &id {
                        Some(id) => store.fate_of(id).await,
                        // It has written nothing that could be lost.
                        None => Ok(Fate::Committed),
                    }
                };
                let timed = engine.timed(StoreVerb::Commit, self.operation.as_deref(), None);
                timed.end(engine.commit(*transaction, fate).await)
            }
            Err(Failure::Ended) => Err(refusal(&Failure::Ended)),
            Err(failure) if is_committed => Err(refusal(&failure)),
            Ok(_) | Err(_) => {
                engine.roll_back(*transaction).await;
                Ok(())
            }
        }
    }
}

impl Drop for Unkeyed {
    fn drop(&mut self) {
        drop(self.slot.end());
    }
}
