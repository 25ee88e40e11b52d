//! The conformance suite fails stores that break a promise about leases.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use bytes::Bytes;
use idempotent_runtime::{
    Attempt, Claim, Forgotten, Hold, KeyState, Store, StoreError, StoreKey, testing::conformance,
};

use crate::assert_found;

/// Which promise a [`Leasing`] store does not keep.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    NeverLapses,
    LapsesAtOnce,
    RenewalIsForgotten,
    MoreIsLeftThanWasGiven,
    ReadExtends,
    ForgetTellsNoLease,
}

/// A store with leases, in the memory of this process, with at most one fault.
struct Leasing {
    fault: Fault,
    entries: Mutex<HashMap<StoreKey, Entry>>,
}

struct Entry {
    attempt: Attempt,
    /// `None` while the claim is running.
    record: Option<Bytes>,
    lease: Duration,
    expires: Instant,
}

impl Entry {
    fn left(&self) -> Duration {
        self.expires.saturating_duration_since(Instant::now())
    }
}

impl Leasing {
    fn new(fault: Fault) -> Self {
        Self { fault, entries: Mutex::default() }
    }

    /// The entries; that of `key` is gone if it has expired.
    fn entries(&self, key: StoreKey) -> MutexGuard<'_, HashMap<StoreKey, Entry>> {
        let mut entries = self.entries.lock().unwrap();
        if entries.get(&key).is_some_and(|entry| {
            let lapses = self.fault != Fault::NeverLapses || entry.record.is_some();
            lapses && entry.expires <= Instant::now()
        }) {
            entries.remove(&key);
        }
        entries
    }

    fn state(&self, entry: &Entry) -> KeyState {
        let fingerprint = entry.attempt.fingerprint;
        if let Some(record) = entry.record.clone() {
            return KeyState::Stored { fingerprint, record, expires_in: entry.left() };
        }
        let twice = self.fault == Fault::MoreIsLeftThanWasGiven;
        let lease_left = Some(entry.left() * if twice { 2 } else { 1 });
        KeyState::Running { fingerprint: Some(fingerprint), lease_left }
    }
}

impl Store for Leasing {
    async fn claim(&self, attempt: &Attempt, lease: Duration) -> Result<Claim, StoreError> {
        let held = if self.fault == Fault::LapsesAtOnce { lease / 4 } else { lease };
        let new =
            Entry { attempt: attempt.clone(), record: None, lease, expires: Instant::now() + held };
        let mut entries = self.entries(attempt.key);
        let entry = entries.entry(attempt.key).or_insert(new);
        Ok(match self.state(entry) {
            KeyState::Running { .. } if entry.attempt.token == attempt.token => {
                Claim::Claimed { lease: Some(lease) }
            }
            KeyState::Running { fingerprint, lease_left, .. } => {
                Claim::Running { fingerprint, lease_left }
            }
            KeyState::Stored { fingerprint, record, expires_in, .. } => {
                Claim::Stored { fingerprint, record, expires_in }
            }
            state => unreachable!("{state:?}"),
        })
    }

    async fn renew(&self, attempt: &Attempt, lease: Duration) -> Result<Hold, StoreError> {
        let mut entries = self.entries(attempt.key);
        match entries.get_mut(&attempt.key) {
            Some(entry) if entry.attempt.token == attempt.token && entry.record.is_none() => {
                if self.fault != Fault::RenewalIsForgotten {
                    entry.expires = Instant::now() + lease;
                }
                Ok(Hold::Held)
            }
            _ => Ok(Hold::Lost),
        }
    }

    async fn complete(
        &self,
        attempt: &Attempt,
        record: Bytes,
        ttl: Duration,
    ) -> Result<Hold, StoreError> {
        let mut entries = self.entries(attempt.key);
        match entries.get_mut(&attempt.key) {
            Some(entry) if entry.attempt.token == attempt.token => {
                if entry.record.is_none() {
                    entry.record = Some(record);
                    entry.expires = Instant::now() + ttl;
                }
                Ok(Hold::Held)
            }
            _ => Ok(Hold::Lost),
        }
    }

    async fn release(&self, attempt: &Attempt) -> Result<(), StoreError> {
        self.entries(attempt.key).retain(|key, entry| {
            *key != attempt.key || entry.attempt.token != attempt.token || entry.record.is_some()
        });
        Ok(())
    }

    async fn wait(&self, _key: StoreKey, at_most: Duration) {
        tokio::time::sleep(at_most.min(Duration::from_millis(10))).await;
    }

    async fn read(&self, key: StoreKey) -> Result<KeyState, StoreError> {
        let mut entries = self.entries(key);
        let Some(entry) = entries.get_mut(&key) else { return Ok(KeyState::Absent) };
        let state = self.state(entry);
        if self.fault == Fault::ReadExtends && entry.record.is_none() {
            entry.expires = Instant::now() + entry.lease;
        }
        Ok(state)
    }

    async fn forget(&self, key: StoreKey, even_if_running: bool) -> Result<Forgotten, StoreError> {
        let mut entries = self.entries(key);
        let Some(entry) = entries.get(&key) else { return Ok(Forgotten::Absent) };
        if entry.record.is_none() && !even_if_running {
            let lease_left = Some(entry.left()).filter(|_| self.fault != Fault::ForgetTellsNoLease);
            return Ok(Forgotten::StillRunning { lease_left });
        }
        entries.remove(&key);
        Ok(Forgotten::Freed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_leases_conforms() {
    conformance(Leasing::new(Fault::None)).await;
}

macro_rules! found {
    ($($name:ident: $fault:ident => $words:literal;)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            assert_found(Leasing::new(Fault::$fault), $words).await;
        })*
    };
}

found! {
    a_lease_that_never_lapses_fails: NeverLapses => "a claim outlives its lease";
    a_lease_that_lapses_early_fails: LapsesAtOnce => "a claim lapsed long before its lease";
    a_renewal_that_is_forgotten_fails: RenewalIsForgotten => "with a renewed lease";
    a_lease_of_which_too_much_is_left_fails: MoreIsLeftThanWasGiven
        => "`lease_left` exceeds the lease";
    a_read_that_extends_a_lease_fails: ReadExtends => "a claim that is read outlives its lease";
    a_forget_that_tells_no_lease_fails: ForgetTellsNoLease
        => "`lease_left` must be set";
}
