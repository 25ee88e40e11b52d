//! [`Turns`]: which of the requests in this process that want the same key asks for a transaction.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::store::StoreKey;

/// Lets one job at a time claim each key and run; the others wait without a connection.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    keys: Mutex<HashMap<StoreKey, Key>>,
}

/// A key and how many have joined; removed from the map with the last of them.
#[derive(Debug)]
struct Key {
    /// The holder of the one permit has the turn; closed once the turns have ended for everyone.
    turn: Arc<Semaphore>,
    joined: usize,
}

/// One of those that want a key, with or without the turn. Dropping it passes the turn on.
#[derive(Debug)]
pub(super) struct Ticket {
    turns: Arc<Turns>,
    key: StoreKey,
    turn: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    pub(super) fn join(self: &Arc<Self>, key: StoreKey) -> Ticket {
        let mut keys = self.keys();
        let new = || Key { turn: Arc::new(Semaphore::new(1)), joined: 0 };
        let joined = keys.entry(key).or_insert_with(new);
        joined.joined += 1;
        let turn = Arc::clone(&joined.turn);
        Ticket { turns: Arc::clone(self), key, turn, permit: None }
    }

    /// Whether someone has the turn of `key`.
    pub(super) fn is_taken(&self, key: StoreKey) -> bool {
        self.keys().get(&key).is_some_and(|key| key.turn.available_permits() == 0)
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<StoreKey, Key>> {
        // Nothing in a critical section panics halfway through a change.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Takes the turn if nobody has it; returns whether this one has it.
    pub(super) fn try_turn(&mut self) -> bool {
        if self.permit.is_none() {
            self.permit = Arc::clone(&self.turn).try_acquire_owned().ok();
        }
        self.permit.is_some()
    }

    /// Waits until this one has the turn; `false` if nobody needs one any more.
    pub(super) async fn turn(&mut self) -> bool {
        if self.permit.is_none() {
            self.permit = Arc::clone(&self.turn).acquire_owned().await.ok();
        }
        self.permit.is_some()
    }

    /// Lets everyone who waits for this key look again, not only the next.
    pub(super) fn end(self) {
        let mut keys = self.turns.keys();
        if keys.get(&self.key).is_some_and(|key| Arc::ptr_eq(&key.turn, &self.turn)) {
            keys.remove(&self.key);
        }
        drop(keys);
        self.turn.close();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut keys = self.turns.keys();
        let Some(key) = keys.get_mut(&self.key) else { return };
        if !Arc::ptr_eq(&key.turn, &self.turn) {
            return;
        }
        key.joined -= 1;
        if key.joined == 0 {
            keys.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use idempotent_test_support::is_pending;

    use super::*;

    const KEY: StoreKey = StoreKey::from_bytes([1; 16]);

    #[tokio::test]
    async fn one_has_the_turn_and_passes_it_on() {
        let turns = Arc::new(Turns::default());
        let (mut first, mut second) = (turns.join(KEY), turns.join(KEY));
        assert!(!turns.is_taken(KEY));
        assert!(first.try_turn() && first.try_turn());
        assert!(!second.try_turn() && turns.is_taken(KEY));
        assert!(turns.join(StoreKey::from_bytes([2; 16])).try_turn(), "of another key");
        {
            let mut waits = pin!(second.turn());
            assert!(is_pending(waits.as_mut()).await);
            drop(first);
            assert!(waits.await);
        }
        drop(second);
        assert!(turns.keys().is_empty(), "a key that nobody wants is forgotten");
    }

    #[tokio::test]
    async fn an_end_for_all_wakes_everybody_and_leaves_the_key_to_who_comes_next() {
        let turns = Arc::new(Turns::default());
        let (mut first, mut second, mut third) =
            (turns.join(KEY), turns.join(KEY), turns.join(KEY));
        assert!(first.try_turn());
        first.end();
        assert!(!second.turn().await && !third.turn().await);
        let mut next = turns.join(KEY);
        assert!(next.try_turn());
        drop((second, third));
        assert!(turns.is_taken(KEY), "those of the old turn do not count");
        drop(next);
        assert!(turns.keys().is_empty());
    }

    #[tokio::test]
    async fn one_that_leaves_while_it_waits_takes_no_turn_away() {
        let turns = Arc::new(Turns::default());
        let (mut first, mut leaving) = (turns.join(KEY), turns.join(KEY));
        assert!(first.try_turn());
        assert!(is_pending(pin!(leaving.turn())).await);
        drop((leaving, first));
        assert!(turns.keys().is_empty());
        assert!(turns.join(KEY).try_turn());
    }
}
