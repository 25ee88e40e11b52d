//! [`Runs`]: this process's claims.
//!
//! They are only in memory: the file belongs to this process, so a claim ends with it whatever is
//! on disk. That reduces a first request to one commit, the one that stores its record.
//!
//! ```text
//!                 nothing on disk            complete             on disk
//! absent -> asking -------------> running -----------> storing ----------> absent here
//!   ^         |                   |  ^                  |   |
//!   |         | a record on disk  |  |      not on disk |   | not on disk, and released meanwhile
//!   +---------+-------------------+  +------------------+   +--> absent
//!                 release, forget
//! ```
//!
//! Whoever finds no run holds the key as asking, from before it looks at the disk. So no other run
//! can store a record between that look and the claim, and a run that is storing is visible until
//! the disk has its record.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::{Notify, futures::OwnedNotified};

use crate::store::{Attempt, Fingerprint, StoreKey, Token};

/// The keys that are running or about to be.
#[derive(Default)]
pub(super) struct Runs(Mutex<HashMap<StoreKey, Run>>);

struct Run {
    fingerprint: Fingerprint,
    token: Token,
    phase: Phase,
    /// What is on its way to the disk.
    record: Option<Bytes>,
    /// Created by the first waiter, since most runs never have one.
    changed: Option<Arc<Notify>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not claimed yet: the disk is being asked.
    Asking,
    Running,
    /// The writer has the run's record.
    Storing,
    /// The same, but the key becomes free if the record cannot be stored.
    Leaving,
}

impl Run {
    /// Whether this record of `token` is on its way to the disk. An older one may have the same
    /// token, if the key was freed and claimed again with it.
    fn is_storing(&self, token: Token, record: &Bytes) -> bool {
        let is_storing = matches!(self.phase, Phase::Storing | Phase::Leaving);
        is_storing && self.token == token && self.record.as_ref() == Some(record)
    }

    /// A signal for the next change.
    fn change(&mut self) -> OwnedNotified {
        // Created under the lock, so that a change after this line wakes it, whether polled or not.
        Arc::clone(self.changed.get_or_insert_default()).notified_owned()
    }
}

/// What a claim finds.
pub(super) enum Found<'a> {
    /// The attempt already holds the key.
    Own,
    Running(Fingerprint),
    /// Nothing is running: the disk decides.
    Nobody(Asking<'a>),
    /// Nothing is running, and someone else is asking the disk, until the signal.
    Asked(OwnedNotified),
}

/// The result of beginning to store a record.
pub(super) enum Begun {
    Now(Storing),
    /// Another call with this token has begun, and ends with the signal.
    Before(OwnedNotified),
    /// The token does not hold the key.
    NotHeld,
}

/// The result of freeing a running key.
pub(super) enum Freed {
    Yes,
    StillRunning,
    /// Its record is on its way to the disk, until the signal.
    Storing(OwnedNotified),
    /// Nothing is running: the disk decides.
    Nobody,
}

impl Runs {
    pub(super) fn claim(&self, attempt: &Attempt) -> Found<'_> {
        let Attempt { key, fingerprint, token, .. } = *attempt;
        match self.lock().entry(key) {
            Entry::Vacant(absent) => {
                absent.insert(Run {
                    fingerprint,
                    token,
                    phase: Phase::Asking,
                    record: None,
                    changed: None,
                });
                Found::Nobody(Asking { runs: self, key, is_claimed: false })
            }
            Entry::Occupied(mut found) => {
                let run = found.get_mut();
                match run.phase {
                    Phase::Asking => Found::Asked(run.change()),
                    _ if run.token == token => Found::Own,
                    _ => Found::Running(run.fingerprint),
                }
            }
        }
    }

    /// Whether the attempt holds its key.
    pub(super) fn is_held(&self, attempt: &Attempt) -> bool {
        let runs = self.lock();
        runs.get(&attempt.key)
            .is_some_and(|run| run.token == attempt.token && run.phase != Phase::Asking)
    }

    /// The fingerprint of the running request.
    pub(super) fn running(&self, key: StoreKey) -> Option<Fingerprint> {
        let runs = self.lock();
        runs.get(&key).filter(|run| run.phase != Phase::Asking).map(|run| run.fingerprint)
    }

    /// A signal for the next change of `key`; `None` if nothing is running.
    pub(super) fn change(&self, key: StoreKey) -> Option<OwnedNotified> {
        self.lock().get_mut(&key).map(Run::change)
    }

    pub(super) fn store(self: &Arc<Self>, attempt: &Attempt, record: &Bytes) -> Begun {
        let mut runs = self.lock();
        let Some(run) = runs.get_mut(&attempt.key).filter(|run| run.token == attempt.token) else {
            return Begun::NotHeld;
        };
        match run.phase {
            Phase::Asking => Begun::NotHeld,
            Phase::Running => {
                run.phase = Phase::Storing;
                run.record = Some(record.clone());
                let (runs, record) = (Arc::clone(self), record.clone());
                let Attempt { key, token, .. } = *attempt;
                Begun::Now(Storing { runs, key, token, record, is_stored: false })
            }
            Phase::Storing | Phase::Leaving => Begun::Before(run.change()),
        }
    }

    /// Someone has read this record of `token`, which may be on disk a moment before the writer
    /// learns of it: from now on nobody is told that its run is still running.
    pub(super) fn is_stored(&self, key: StoreKey, token: Token, record: &Bytes) {
        let runs = self.lock();
        if runs.get(&key).is_some_and(|run| run.is_storing(token, record)) {
            remove(runs, key);
        }
    }

    /// Frees the key if the attempt is running. If its record is on its way to the disk, that
    /// decides: at the signal, the key is stored or free.
    pub(super) fn release(&self, attempt: &Attempt) -> Option<OwnedNotified> {
        let mut runs = self.lock();
        let run = runs.get_mut(&attempt.key).filter(|run| run.token == attempt.token)?;
        match run.phase {
            Phase::Asking => None,
            Phase::Running => {
                remove(runs, attempt.key);
                None
            }
            Phase::Storing | Phase::Leaving => {
                run.phase = Phase::Leaving;
                Some(run.change())
            }
        }
    }

    /// Frees the key if it is running and `even_if_running` is set.
    pub(super) fn free(&self, key: StoreKey, even_if_running: bool) -> Freed {
        let mut runs = self.lock();
        let Some(run) = runs.get_mut(&key).filter(|run| run.phase != Phase::Asking) else {
            return Freed::Nobody;
        };
        if !even_if_running {
            return Freed::StillRunning;
        }
        if run.phase != Phase::Running {
            return Freed::Storing(run.change());
        }
        remove(runs, key);
        Freed::Yes
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StoreKey, Run>> {
        // Nothing in a critical section panics halfway through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove(mut runs: MutexGuard<'_, HashMap<StoreKey, Run>>, key: StoreKey) {
    let removed = runs.remove(&key);
    drop(runs);
    wake(removed.and_then(|run| run.changed));
}

fn wake(changed: Option<Arc<Notify>>) {
    if let Some(changed) = changed {
        changed.notify_waiters();
    }
}

/// A key that nobody runs, while its caller asks the disk. Dropping it frees the key.
pub(super) struct Asking<'a> {
    runs: &'a Runs,
    key: StoreKey,
    is_claimed: bool,
}

impl Asking<'_> {
    /// The disk has nothing: the key is the caller's.
    pub(super) fn claim(mut self) {
        self.is_claimed = true;
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut runs = self.runs.lock();
        if !self.is_claimed {
            return remove(runs, self.key);
        }
        let Some(run) = runs.get_mut(&self.key) else { return };
        run.phase = Phase::Running;
        let changed = run.changed.take();
        drop(runs);
        wake(changed);
    }
}

/// A run whose record is on its way to the disk. Dropping it returns the run to its previous state:
/// the record is not stored.
pub(super) struct Storing {
    runs: Arc<Runs>,
    key: StoreKey,
    token: Token,
    record: Bytes,
    is_stored: bool,
}

impl Storing {
    /// The disk has the record.
    pub(super) fn stored(mut self) {
        self.is_stored = true;
    }
}

impl Drop for Storing {
    fn drop(&mut self) {
        let mut runs = self.runs.lock();
        let run = runs.get_mut(&self.key).filter(|run| run.is_storing(self.token, &self.record));
        let Some(run) = run else { return };
        if self.is_stored || run.phase == Phase::Leaving {
            return remove(runs, self.key);
        }
        run.phase = Phase::Running;
        run.record = None;
        let changed = run.changed.take();
        drop(runs);
        wake(changed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: Bytes = Bytes::from_static(b"record");

    fn attempt(token: u8) -> Attempt {
        let (key, fingerprint) = (StoreKey::from_bytes([1; 16]), Fingerprint::from_bytes([2; 16]));
        Attempt::new(key, fingerprint, Token::from_bytes([token; 16]))
    }

    fn claimed(attempt: &Attempt) -> Arc<Runs> {
        let runs = Arc::<Runs>::default();
        match runs.claim(attempt) {
            Found::Nobody(asking) => asking.claim(),
            _ => panic!("nobody runs"),
        }
        runs
    }

    fn storing(runs: &Arc<Runs>, attempt: &Attempt) -> Storing {
        match runs.store(attempt, &RECORD) {
            Begun::Now(storing) => storing,
            _ => panic!("it runs"),
        }
    }

    #[test]
    fn who_asks_the_disk_holds_the_key_and_not_the_claim() {
        let (runs, own) = (Arc::<Runs>::default(), attempt(1));
        let Found::Nobody(asking) = runs.claim(&own) else { panic!("nobody runs") };
        assert!(matches!(runs.claim(&attempt(2)), Found::Asked(_)));
        assert!(!runs.is_held(&own) && runs.running(own.key).is_none());
        assert!(matches!(runs.store(&own, &RECORD), Begun::NotHeld));
        assert!(matches!(runs.free(own.key, true), Freed::Nobody));
        drop(asking);
        assert!(matches!(runs.claim(&attempt(2)), Found::Nobody(_)));
    }

    #[tokio::test]
    async fn who_is_told_to_wait_for_the_disk_is_woken_by_either_answer() {
        for is_claimed in [false, true] {
            let runs = Runs::default();
            let Found::Nobody(asking) = runs.claim(&attempt(1)) else { panic!("nobody runs") };
            let Found::Asked(asked) = runs.claim(&attempt(2)) else { panic!("it is asked") };
            if is_claimed {
                asking.claim();
            } else {
                drop(asking);
            }
            asked.await;
            assert_eq!(runs.is_held(&attempt(1)), is_claimed);
        }
    }

    #[tokio::test]
    async fn a_record_that_is_not_stored_leaves_its_run() {
        let own = attempt(1);
        let runs = claimed(&own);
        let storing = storing(&runs, &own);
        let Begun::Before(ended) = runs.store(&own, &RECORD) else { panic!("it has begun") };
        assert!(matches!(runs.free(own.key, true), Freed::Storing(_)), "its fate is the disk's");
        assert!(matches!(runs.free(own.key, false), Freed::StillRunning));
        drop(storing);
        ended.await;
        assert!(runs.is_held(&own));
        assert!(matches!(runs.store(&own, &RECORD), Begun::Now(_)), "it may be stored again");
    }

    #[tokio::test]
    async fn a_release_meanwhile_frees_the_key_unless_the_record_is_stored() {
        for is_stored in [false, true] {
            let own = attempt(1);
            let runs = claimed(&own);
            let storing = storing(&runs, &own);
            let ended = runs.release(&own).expect("the disk decides");
            assert!(matches!(runs.claim(&attempt(2)), Found::Running(_)), "not before its end");
            if is_stored {
                storing.stored();
            } else {
                drop(storing);
            }
            ended.await;
            assert!(matches!(runs.claim(&attempt(2)), Found::Nobody(_)), "the disk tells");
        }
    }

    #[tokio::test]
    async fn a_record_that_was_read_ends_its_run_before_the_writer_hears_of_it() {
        let own = attempt(1);
        let runs = claimed(&own);
        runs.is_stored(own.key, own.token, &RECORD);
        assert!(runs.is_held(&own), "nothing of it can have been read yet");
        let storing = storing(&runs, &own);
        let ended = runs.change(own.key).expect("it runs");
        runs.is_stored(own.key, attempt(2).token, &RECORD);
        runs.is_stored(own.key, own.token, &Bytes::from_static(b"before"));
        assert!(runs.is_held(&own), "an older record was read");
        runs.is_stored(own.key, own.token, &RECORD);
        ended.await;
        let Found::Nobody(asking) = runs.claim(&attempt(2)) else { panic!("the disk tells") };
        storing.stored();
        asking.claim();
        assert!(runs.is_held(&attempt(2)), "who came next is left alone");
    }
}
