//! [`Unkeyed`]: work without a key in a transaction.

use std::sync::Arc;

use super::settle::{refusal, still_in_use};
use crate::{
    engine::{ask::Refusal, settings::Engine},
    failpoint::failpoint,
    store::{
        Slot,
        postgres::{Failure, Fate},
    },
};

/// A transaction without a claim. Dropped before it has settled, it is rolled back.
pub(crate) struct Unkeyed {
    engine: Arc<Engine>,
    slot: Slot,
}

impl Unkeyed {
    /// Begins a transaction, which `slot` then has.
    pub(crate) async fn begin(engine: Arc<Engine>, slot: Slot) -> Result<Self, Refusal> {
        slot.open(engine.begin(&slot, None).await?);
        failpoint("tx-after-claim");
        Ok(Self { engine, slot })
    }

    /// Commits, or rolls back.
    pub(crate) async fn settle(self, is_committed: bool) -> Result<(), Refusal> {
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
                engine.commit(*transaction, fate).await
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
