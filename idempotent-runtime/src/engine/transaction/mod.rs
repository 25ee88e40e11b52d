//! Work in a transaction: its claim, its rows and its record are committed together or not at all.
//!
//! A separate flow from that of leases: there is nothing to renew, nothing to store afterwards, and
//! no claim to lose. Waiting, records and replays are shared.
//!
//! ```text
//! read: stored → replay            one statement, no transaction
//!       running → wait, read again
//!       absent → the turn of this process → begin, claim → work → record, commit
//! ```

mod settle;
mod turns;
mod tx;
mod unkeyed;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::{sleep, timeout};

use self::turns::Ticket;
pub use self::tx::{ReadCommitted, RepeatableRead, Serializable, Tx};
pub(super) use self::{settle::InTransaction, turns::Turns};
pub(crate) use self::{tx::Isolation, unkeyed::Unkeyed};
use super::{
    ask::{Found, Refusal},
    claimed::Claimed,
    event::StoreVerb,
    job::Job,
    record,
    settings::Engine,
    waiting::{Waiting, WaitingBytes},
};
use crate::{
    failpoint::failpoint,
    store::{
        Fingerprint, KeyState, Slot, StoreError, Token, jittered,
        postgres::{Begun, Failure, Isolation as Level, PostgresStore, Transaction, Wanted},
    },
};

/// The pause between two attempts to claim a key that someone else was looking at.
const PAUSE: Duration = Duration::from_millis(5);

impl Job {
    /// Asks until the key is claimed in a transaction, which is then in `slot`, or there is an
    /// answer.
    pub(super) async fn ask_in_transaction(mut self, slot: Slot) -> Found {
        let mut held = None;
        let claimed = self.claim_in_transaction(&slot, &mut held).await;
        if let Some(held) = held {
            self.watch.has_waited(held.time());
        }
        match claimed {
            Ok(turn) => {
                failpoint("tx-after-claim");
                let transaction = InTransaction::new(slot, turn);
                Found::Claimed(Claimed::in_transaction(self, transaction))
            }
            Err(found) => self.told(found),
        }
    }

    async fn claim_in_transaction(
        &self,
        slot: &Slot,
        held: &mut Option<WaitingBytes>,
    ) -> Result<Ticket, Found> {
        let turns = &self.engine.turns;
        let key = self.attempt.key;
        let mut waiting = Waiting::new(self);
        let mut turn: Option<Ticket> = None;
        loop {
            if let Some(found) = self.near() {
                return Err(found);
            }
            let moment = self.engine.near.moment();
            let running = match self.read().await {
                Ok(KeyState::Absent) => None,
                Ok(KeyState::Running { fingerprint, lease_left }) => {
                    Some((fingerprint, lease_left))
                }
                Ok(KeyState::Stored { fingerprint, record, expires_in }) => {
                    return Err(self.found_in(fingerprint, record, expires_in, moment));
                }
                Err(_) => return Err(Refusal::StoreUnavailable.into()),
            };
            if let Some((fingerprint, lease_left)) = running {
                self.hold_input(held, fingerprint)?;
                // Waiting for a run of another process takes no turn.
                if let Some(turn) = turn.take() {
                    turn.end();
                }
                if turns.is_taken(key) {
                    turn = self.await_turn(turns.join(key), &waiting).await?;
                } else {
                    waiting.wait(fingerprint, lease_left).await?;
                }
                continue;
            }
            let mut ticket = turn.take().unwrap_or_else(|| turns.join(key));
            if !ticket.try_turn() {
                self.hold_input(held, None)?;
                turn = self.await_turn(ticket, &waiting).await?;
                continue;
            }
            if self.engine.is_full() {
                return Err(Refusal::TooManyRuns.into());
            }
            if self.begin_and_claim(slot).await? {
                return Ok(ticket);
            }
            turn = Some(ticket);
            let left = waiting.left();
            if left.is_zero() {
                return Err(Refusal::RequestInProgress.into());
            }
            sleep(jittered(PAUSE).min(left)).await;
        }
    }

    /// Counts the input towards that of the waiting requests.
    fn hold_input(
        &self,
        held: &mut Option<WaitingBytes>,
        running: Option<Fingerprint>,
    ) -> Result<(), Refusal> {
        let refusal = self.refusal_without_waiting(running);
        if refusal == Refusal::KeyReused {
            return Err(refusal);
        }
        if held.is_none() {
            *held = WaitingBytes::hold(self.input_bytes, self.engine.max_waiting_bytes);
        }
        held.as_ref().map(drop).ok_or(refusal)
    }

    /// Waits for the turn; `None` if there is something for everyone to see.
    async fn await_turn(
        &self,
        mut ticket: Ticket,
        waiting: &Waiting<'_>,
    ) -> Result<Option<Ticket>, Refusal> {
        match timeout(waiting.left(), ticket.turn()).await {
            Ok(true) => Ok(Some(ticket)),
            Ok(false) => Ok(None),
            Err(_) => Err(Refusal::RequestInProgress),
        }
    }

    /// Whether the key is claimed, in the transaction that is then in `slot`. Otherwise someone
    /// else has the key, or was looking at it.
    async fn begin_and_claim(&self, slot: &Slot) -> Result<bool, Refusal> {
        let note = self.engine.write_record(&self.attempt, &record::unknown());
        let note = note.map_err(|error| settle::refusal(&Failure::Passing(error)))?;
        let timed = self.timed(StoreVerb::Begin);
        let mut transaction = timed.end(self.engine.begin(slot, Some(self.attempt.token)).await)?;
        let claim = transaction.claim(&self.attempt, &note, self.ttl);
        let claim = async {
            let timed = self.timed(StoreVerb::Claim);
            timed.end(claim.await)
        };
        match self.within_limit(claim).await {
            Ok(true) => {
                slot.open(transaction);
                Ok(true)
            }
            Ok(false) => {
                // If this fails, the connection is closed.
                let _ = self.within_limit(transaction.roll_back()).await;
                Ok(false)
            }
            Err(_) => Err(Refusal::StoreUnavailable),
        }
    }

    async fn read(&self) -> Result<KeyState, StoreError> {
        let timed = self.timed(StoreVerb::Read);
        let read = async { timed.end(self.engine.store.store().read(self.attempt.key).await) };
        self.within_limit(read).await
    }
}

impl Engine {
    fn transactional(&self) -> &PostgresStore {
        self.store.transactional().expect("a slot is made only for a store with transactions")
    }

    /// Begins a transaction as `slot` wants it, for a claim with this token if there is a key.
    async fn begin(&self, slot: &Slot, claim: Option<Token>) -> Result<Transaction, Refusal> {
        /// How often none was free.
        static REFUSED: AtomicU64 = AtomicU64::new(0);

        let wanted = Wanted {
            isolation: slot.wanted().unwrap_or(Level::ReadCommitted),
            mark: claim.unwrap_or_else(Token::random),
            is_claim_next: claim.is_some(),
            lease: self.lease,
        };
        let begun = self.transactional().begin(wanted, self.store_timeout).await;
        match self.note(begun) {
            Ok(Begun::Open(transaction)) => Ok(transaction),
            Ok(Begun::NoneFree) => {
                let refused = REFUSED.fetch_add(1, Ordering::Relaxed) + 1;
                // Only at powers of two, so that a rush does not flood the log.
                if refused.is_power_of_two() {
                    tracing::warn!(
                        target: crate::TARGET,
                        refused,
                        "no transaction was free within `store_timeout`: more handlers with a `Tx` \
                         run at once than `max_transactions` allows"
                    );
                }
                Err(Refusal::StoreUnavailable)
            }
            Err(_) => Err(Refusal::StoreUnavailable),
        }
    }
}
