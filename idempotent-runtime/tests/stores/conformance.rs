//! The conformance suite passes the store of this crate, and fails stores that break a promise.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use idempotent_runtime::{
    Attempt, Claim, Forgotten, Hold, KeyState, MemoryStore, Store, StoreError, StoreKey,
    testing::{FailingStore, conformance},
};

use crate::{assert_found, at};

/// Which promise a [`Broken`] store does not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    CheckThenInsert,
    RunningWithTheAskersFingerprint,
    ReleaseWithoutToken,
    CompleteWithoutToken,
    RenewAnything,
    WaitMissesTheEnd,
    ForgetsTtl,
    ExpiresAtOnce,
    ExpiresTooLate,
    ExpiryStandsStill,
    ReadClaims,
    ReadExtends,
    ForgetIgnoresThatItRuns,
    ForgetSparesEveryRun,
    ForgetLeavesTheRecord,
    ForgetFreesTwice,
}

/// A memory store with one fault.
pub(crate) struct Broken {
    fault: Fault,
    store: MemoryStore,
    /// The last attempt that claimed the key, for faults that act in its name.
    holders: Mutex<HashMap<StoreKey, Attempt>>,
    /// The ttl with which the key was completed.
    ttls: Mutex<HashMap<StoreKey, Duration>>,
}

impl Broken {
    pub(crate) fn new(fault: Fault) -> Self {
        let (holders, ttls) = (Mutex::default(), Mutex::default());
        Self { fault, store: MemoryStore::new(), holders, ttls }
    }

    fn holders(&self) -> MutexGuard<'_, HashMap<StoreKey, Attempt>> {
        self.holders.lock().unwrap()
    }

    fn holder(&self, key: StoreKey) -> Option<Attempt> {
        self.holders().get(&key).cloned()
    }

    fn ttl(&self, key: StoreKey) -> Duration {
        self.ttls.lock().unwrap()[&key]
    }

    /// What it reports for a ttl with `left` remaining.
    fn expires_in(&self, key: StoreKey, left: Duration) -> Duration {
        match self.fault {
            Fault::ExpiresAtOnce => Duration::ZERO,
            Fault::ExpiresTooLate => left * 2,
            Fault::ExpiryStandsStill => self.ttl(key),
            _ => left,
        }
    }
}

impl Store for Broken {
    async fn claim(&self, attempt: &Attempt, lease: Duration) -> Result<Claim, StoreError> {
        let key = attempt.key;
        if self.fault == Fault::CheckThenInsert && self.holder(key).is_none() {
            // Another thread gets in between the check and the insert.
            tokio::task::yield_now().await;
            std::thread::yield_now();
            self.holders().insert(key, attempt.clone());
            self.store.claim(attempt, lease).await?;
            return Ok(Claim::Claimed { lease: None });
        }
        Ok(match self.store.claim(attempt, lease).await? {
            claim @ Claim::Claimed { .. } => {
                self.holders().insert(key, attempt.clone());
                claim
            }
            Claim::Running { lease_left, .. }
                if self.fault == Fault::RunningWithTheAskersFingerprint =>
            {
                Claim::Running { fingerprint: Some(attempt.fingerprint), lease_left }
            }
            Claim::Stored { fingerprint, record, expires_in } => {
                let expires_in = self.expires_in(key, expires_in);
                Claim::Stored { fingerprint, record, expires_in }
            }
            claim => claim,
        })
    }

    async fn renew(&self, attempt: &Attempt, lease: Duration) -> Result<Hold, StoreError> {
        if self.fault == Fault::RenewAnything {
            return Ok(Hold::Held);
        }
        self.store.renew(attempt, lease).await
    }

    async fn complete(
        &self,
        attempt: &Attempt,
        record: Bytes,
        ttl: Duration,
    ) -> Result<Hold, StoreError> {
        self.ttls.lock().unwrap().insert(attempt.key, ttl);
        match self.fault {
            Fault::CompleteWithoutToken => {
                let holder = self.holder(attempt.key).unwrap_or_else(|| attempt.clone());
                self.store.complete(&holder, record, ttl).await
            }
            Fault::ForgetsTtl => {
                self.store.complete(attempt, record, Duration::from_secs(3600)).await
            }
            _ => self.store.complete(attempt, record, ttl).await,
        }
    }

    async fn release(&self, attempt: &Attempt) -> Result<(), StoreError> {
        let holder = match self.fault {
            Fault::ReleaseWithoutToken => self.holder(attempt.key),
            _ => None,
        };
        self.store.release(holder.as_ref().unwrap_or(attempt)).await
    }

    async fn wait(&self, key: StoreKey, at_most: Duration) {
        if self.fault == Fault::WaitMissesTheEnd {
            return tokio::time::sleep(at_most).await;
        }
        self.store.wait(key, at_most).await;
    }

    async fn read(&self, key: StoreKey) -> Result<KeyState, StoreError> {
        Ok(match self.store.read(key).await? {
            KeyState::Absent if self.fault == Fault::ReadClaims => {
                self.claim(&at(key), Duration::ZERO).await?;
                KeyState::Absent
            }
            KeyState::Stored { fingerprint, record, expires_in } => {
                if self.fault == Fault::ReadExtends {
                    let holder = self.holder(key).expect("a stored key was claimed");
                    let _ = self.store.forget(key, false).await?;
                    self.store.claim(&holder, Duration::ZERO).await?;
                    let _ = self.store.complete(&holder, record.clone(), self.ttl(key)).await?;
                }
                let expires_in = self.expires_in(key, expires_in);
                KeyState::Stored { fingerprint, record, expires_in }
            }
            state => state,
        })
    }

    async fn forget(&self, key: StoreKey, even_if_running: bool) -> Result<Forgotten, StoreError> {
        match self.fault {
            Fault::ForgetIgnoresThatItRuns => self.store.forget(key, true).await,
            Fault::ForgetSparesEveryRun => self.store.forget(key, false).await,
            Fault::ForgetLeavesTheRecord => Ok(match self.store.read(key).await? {
                KeyState::Absent => Forgotten::Absent,
                KeyState::Stored { .. } => Forgotten::Freed,
                _ => return self.store.forget(key, even_if_running).await,
            }),
            Fault::ForgetFreesTwice => {
                let state = self.store.read(key).await?;
                // Another thread gets in between the look and the act.
                tokio::task::yield_now().await;
                std::thread::yield_now();
                match state {
                    KeyState::Stored { .. } => {
                        let _ = self.store.forget(key, even_if_running).await?;
                        Ok(Forgotten::Freed)
                    }
                    _ => self.store.forget(key, even_if_running).await,
                }
            }
            _ => self.store.forget(key, even_if_running).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_store_conforms() {
    conformance(MemoryStore::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_store_without_faults_conforms_as_the_one_inside_it() {
    conformance(FailingStore::new(MemoryStore::new())).await;
}

macro_rules! found {
    ($($name:ident: $fault:ident => $words:literal;)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            assert_found(Broken::new(Fault::$fault), $words).await;
        })*
    };
}

found! {
    a_claim_that_checks_then_inserts_fails: CheckThenInsert => "one of many threads must claim";
    a_run_with_another_fingerprint_fails: RunningWithTheAskersFingerprint
        => "must show its own fingerprint";
    a_release_without_token_fails: ReleaseWithoutToken => "after `release` by another token";
    a_complete_without_token_fails: CompleteWithoutToken => "`complete` by another token";
    a_renewal_of_anything_fails: RenewAnything => "`renew` by another token";
    a_wait_that_misses_the_end_fails: WaitMissesTheEnd => "must not miss the end";
    a_ttl_that_is_forgotten_fails: ForgetsTtl => "`expires_in` exceeds the ttl";
    an_expiry_that_is_zero_fails: ExpiresAtOnce => "`expires_in` is far less than the ttl";
    an_expiry_that_is_too_late_fails: ExpiresTooLate => "`expires_in` exceeds the ttl";
    an_expiry_that_stands_still_fails: ExpiryStandsStill => "`expires_in` does not fall";
    a_read_that_claims_fails: ReadClaims => "`read` of an absent key";
    a_read_that_extends_fails: ReadExtends => "outlives its ttl";
    a_forget_that_ignores_a_run_fails: ForgetIgnoresThatItRuns
        => "`forget` must leave a running key alone";
    a_forget_that_spares_every_run_fails: ForgetSparesEveryRun => "`forget` of a running key";
    a_forget_that_leaves_the_record_fails: ForgetLeavesTheRecord => "a forgotten record must be gone";
    a_forget_that_looks_before_it_acts_fails: ForgetFreesTwice => "one of many threads must free";
}
