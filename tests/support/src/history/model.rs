//! The table of states in [`Store`](idempotent_runtime::Store)'s docs, as a function.

use bytes::Bytes;

use super::{Asked, Asker, Told};

/// What a key holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) enum State {
    #[default]
    Absent,
    Running(Asker),
    Stored(Asker, Bytes),
}

impl State {
    /// The state after a call, and the answer to it. [`Asked::Wait`] is not a step.
    pub(super) fn step(&self, asked: &Asked) -> (Self, Told) {
        let same = |told| (self.clone(), told);
        let is_run_of = |by: &Asker| matches!(self, Self::Running(it) if it.token == by.token);
        match (asked, self) {
            (Asked::Claim(by), Self::Absent) => (Self::Running(*by), Told::Claimed),
            (Asked::Claim(by), _) if is_run_of(by) => same(Told::Claimed),
            (Asked::Claim(_) | Asked::Read, Self::Running(it)) => {
                same(Told::Running(Some(it.fingerprint)))
            }
            (Asked::Claim(_) | Asked::Read, Self::Stored(it, record)) => {
                same(Told::Stored(it.fingerprint, record.clone()))
            }

            (Asked::Renew(by), _) => same(if is_run_of(by) { Told::Held } else { Told::Lost }),

            (Asked::Complete(by, record), Self::Running(it)) if is_run_of(by) => {
                (Self::Stored(*it, record.clone()), Told::Held)
            }
            (Asked::Complete(by, _), Self::Stored(it, _)) if by.token == it.token => {
                same(Told::Held)
            }
            (Asked::Complete(..), _) => same(Told::Lost),

            (Asked::Release(by), _) if is_run_of(by) => (Self::Absent, Told::Done),
            (Asked::Release(_) | Asked::Wait, _) => same(Told::Done),

            (Asked::Read | Asked::Forget { .. }, Self::Absent) => same(Told::Absent),
            (Asked::Forget { even_if_running: false }, Self::Running(_)) => {
                same(Told::StillRunning)
            }
            (Asked::Forget { .. }, _) => (Self::Absent, Told::Freed),
        }
    }
}

impl Asked {
    /// Whether it may change what a key holds.
    pub(super) fn may_change(&self) -> bool {
        !matches!(self, Self::Read | Self::Renew(_) | Self::Wait)
    }

    /// Whether it has changed nothing, whatever the key held, given this answer.
    pub(super) fn only_looks(&self, told: &Told) -> bool {
        match told {
            Told::Running(_)
            | Told::Stored(..)
            | Told::Absent
            | Told::Lost
            | Told::StillRunning => true,
            // Claimed earlier or now, completed earlier or now, and so on.
            Told::Claimed | Told::Held | Told::Freed | Told::Done | Told::NotSent => {
                !self.may_change()
            }
        }
    }
}

impl Told {
    /// Whether a store may give this answer if the model gives `expected`.
    pub(super) fn is(&self, expected: &Self) -> bool {
        // The fingerprint of a running claim need not be known yet.
        matches!((self, expected), (Self::Running(None), Self::Running(_))) || self == expected
    }
}
