//! [`Slot`]: where a handler gets its transaction, and its run gets it back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Isolation, Transaction};

/// Holds one request's transaction, shared by the handler and its run. A clone is another handle to
/// it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slot(Arc<Mutex<State>>);

#[derive(Debug, Default)]
enum State {
    /// Nobody has asked for a transaction.
    #[default]
    Free,
    /// Someone has, and it has not begun.
    Wanted(Isolation),
    /// It is here.
    Open(Box<Transaction>),
    /// It is in use.
    InUse,
    /// The run has ended.
    Over,
}

/// Someone else has taken the slot.
#[derive(Debug)]
pub(crate) struct Taken;

impl Slot {
    /// A slot that was asked for a transaction.
    pub(crate) fn wanting(isolation: Isolation) -> Self {
        Self(Arc::new(Mutex::new(State::Wanted(isolation))))
    }

    /// Asks for a transaction.
    pub(crate) fn want(&self, isolation: Isolation) -> Result<(), Taken> {
        let mut state = self.state();
        let is_free = matches!(*state, State::Free);
        if is_free {
            *state = State::Wanted(isolation);
        }
        is_free.then_some(()).ok_or(Taken)
    }

    /// What was asked for.
    pub(crate) fn wanted(&self) -> Option<Isolation> {
        match *self.state() {
            State::Wanted(isolation) => Some(isolation),
            _ => None,
        }
    }

    /// Whether its transaction has begun: it belongs to a request whose handler runs.
    pub(crate) fn has_begun(&self) -> bool {
        matches!(*self.state(), State::Open(_) | State::InUse | State::Over)
    }

    /// Puts the transaction here, to be used.
    pub(crate) fn open(&self, transaction: Transaction) {
        *self.state() = State::Open(Box::new(transaction));
    }

    /// Takes the transaction; `None` if it has not begun, or its run has ended.
    pub(crate) fn take(&self) -> Option<Box<Transaction>> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::InUse) {
            State::Open(transaction) => Some(transaction),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Returns a transaction that was taken, or withdraws the request for one.
    pub(crate) fn leave(&self, transaction: Option<Box<Transaction>>) {
        let mut state = self.state();
        match (&*state, transaction) {
            (State::InUse, Some(transaction)) => *state = State::Open(transaction),
            (State::Wanted(_), None) => *state = State::Free,
            // The run has ended without it: it is rolled back, outside the lock.
            (_, transaction) => {
                drop(state);
                drop(transaction);
            }
        }
    }

    /// Ends the run. `None` if the transaction is still in use: it is rolled back once it is
    /// returned.
    pub(crate) fn end(&self) -> Option<Box<Transaction>> {
        match std::mem::replace(&mut *self.state(), State::Over) {
            State::Open(transaction) => Some(transaction),
            _ => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in a critical section panics halfway through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
