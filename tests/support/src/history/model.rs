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
    /// What it is after a call, and what the call is told. [`Asked::Wait`] is not a step.
    pub(super) fn step(&self, asked: &Asked) -> (Self, Told) {
        let same = |told| (self.clone(), told);
        let is_run_of =
            |asker: &Asker| matches!(self, Self::Running(by) if by.token == asker.token);
        match (asked, self) {
            (Asked::Claim(asker), Self::Absent) => (Self::Running(*asker), Told::Claimed),
            (Asked::Claim(asker), _) if is_run_of(asker) => same(Told::Claimed),
            (Asked::Claim(_) | Asked::Read, Self::Running(by)) => {
                same(Told::Running(Some(by.fingerprint)))
            }
            (Asked::Claim(_) | Asked::Read, Self::Stored(by, record)) => {
                same(Told::Stored(by.fingerprint, record.clone()))
            }
            (Asked::Read, Self::Absent) => same(Told::Absent),

            (Asked::Renew(asker), _) => {
                same(if is_run_of(asker) { Told::Held } else { Told::Lost })
            }

            (Asked::Complete(asker, record), Self::Running(by)) if is_run_of(asker) => {
                (Self::Stored(*by, record.clone()), Told::Held)
            }
            (Asked::Complete(asker, _), Self::Stored(by, _)) if by.token == asker.token => {
                same(Told::Held)
            }
            (Asked::Complete(..), _) => same(Told::Lost),

            (Asked::Release(asker), _) if is_run_of(asker) => (Self::Absent, Told::Done),
            (Asked::Release(_) | Asked::Wait, _) => same(Told::Done),

            (Asked::Forget { .. }, Self::Absent) => same(Told::Absent),
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

    /// Whether it has changed nothing, whatever the key held, since it was told this.
    pub(super) fn only_looks(&self, told: &Told) -> bool {
        match told {
            Told::Running(_)
            | Told::Stored(..)
            | Told::Absent
            | Told::Lost
            | Told::StillRunning => true,
            // Claimed before or now, completed before or now, and so on.
            Told::Claimed | Told::Held | Told::Freed | Told::Done | Told::NotSent => {
                !self.may_change()
            }
        }
    }
}

impl Told {
    /// Whether a store may answer so if the model does as `expected`.
    pub(super) fn is(&self, expected: &Self) -> bool {
        // Who runs need not be known yet.
        matches!((self, expected), (Self::Running(None), Self::Running(_))) || self == expected
    }
}
