//! What expires: records by their ttl, claims by their lease. Reading extends neither.

use std::time::{Duration, Instant};

use super::{LONG, PATIENCE, PAUSE, SHORT, Suite, attempt_at, fresh_key, record};
use crate::{Claim, Hold, KeyState, Store, StoreKey};

/// The method that looks at a key.
#[derive(Clone, Copy)]
enum Look {
    Claim,
    Read,
}

impl<S: Store> Suite<S> {
    pub(super) async fn a_record_expires_by_its_own_ttl(&self) {
        let (short, long) = (self.claimed().await, self.claimed().await);
        assert_eq!(self.complete(&short, record("short"), SHORT).await, Hold::Held);
        assert_eq!(self.complete(&long, record("long"), LONG).await, Hold::Held);
        self.assert_stored(short.key, &record("short"), "before the ttl has passed").await;
        let stored = Instant::now();
        // Reading all the time must not extend it.
        while matches!(self.read(short.key).await, KeyState::Stored { .. })
            && matches!(self.look(short.key).await, Claim::Stored { .. })
        {
            assert!(stored.elapsed() < PATIENCE, "a record outlives its ttl");
            tokio::time::sleep(PAUSE).await;
        }
        assert!(stored.elapsed() > SHORT / 2, "a record expired long before its ttl");
        self.assert_stored(long.key, &record("long"), "with a longer ttl").await;
        self.assert_cannot_complete(
            &short,
            "`complete` with the token of an expired record must return `Lost`",
        )
        .await;

        let expired = self.claimed().await;
        assert_eq!(self.complete(&expired, record("short"), SHORT).await, Hold::Held);
        self.until_absent(expired.key, "a record outlives its ttl").await;
        let forgotten = self.forget(expired.key, true).await;
        assert_eq!(forgotten, crate::Forgotten::Absent, "an expired record must be absent");
        self.assert_absent(expired.key, "after its ttl").await;
    }

    pub(super) async fn what_is_left_of_a_ttl_falls(&self) {
        let key = self.stored("kept").await.key;
        let mut least = LONG;
        for look in [Look::Claim, Look::Read] {
            let since = Instant::now();
            let first = self.expires_in(key, look).await;
            assert!(first <= least, "`expires_in` rises");
            least = first;
            while least == first {
                assert!(since.elapsed() < PATIENCE, "`expires_in` does not fall");
                tokio::time::sleep(PAUSE).await;
                let left = self.expires_in(key, look).await;
                assert!(left <= least, "`expires_in` rises");
                least = left;
            }
        }
    }

    async fn expires_in(&self, key: StoreKey, look: Look) -> Duration {
        match look {
            Look::Claim => match self.look(key).await {
                Claim::Stored { expires_in, .. } => expires_in,
                claim => panic!("the key must hold its record, not {claim:?}"),
            },
            Look::Read => match self.read(key).await {
                KeyState::Stored { expires_in, .. } => expires_in,
                state => panic!("the key must hold its record, not {state:?}"),
            },
        }
    }

    /// Reads `key` until it is absent: reading must not keep its contents alive.
    async fn until_absent(&self, key: StoreKey, otherwise: &str) {
        let since = Instant::now();
        while self.read(key).await != KeyState::Absent {
            assert!(since.elapsed() < PATIENCE, "{otherwise}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Only for stores whose claims can be orphaned; the others return `lease: None`.
    pub(super) async fn a_claim_lapses_with_its_lease(&self) {
        let attempt = attempt_at(fresh_key());
        let Claim::Claimed { lease: Some(_) } = self.claim_for(&attempt, SHORT).await else {
            return;
        };
        let (renewed, read) = (attempt_at(fresh_key()), attempt_at(fresh_key()));
        self.claim_for(&renewed, SHORT).await;
        assert_eq!(
            self.renew(&renewed).await,
            Hold::Held,
            "`renew` by the holder must return `Held`"
        );
        self.claim_for(&read, SHORT).await;

        let since = Instant::now();
        let successor = attempt_at(attempt.key);
        loop {
            match self.claim(&successor).await {
                Claim::Claimed { .. } => break,
                Claim::Running { lease_left: Some(left), .. } => {
                    assert!(left <= SHORT, "`lease_left` exceeds the lease");
                }
                claim => {
                    panic!("a claim with a lease must be running with `lease_left`, not {claim:?}")
                }
            }
            self.read(read.key).await;
            assert!(since.elapsed() < PATIENCE, "a claim outlives its lease");
            tokio::time::sleep(PAUSE).await;
        }
        assert!(since.elapsed() > SHORT / 2, "a claim lapsed long before its lease");
        self.until_absent(read.key, "a claim that is read outlives its lease").await;
        self.assert_running(renewed.key, "with a renewed lease").await;

        assert_eq!(
            self.renew(&attempt).await,
            Hold::Lost,
            "`renew` of a lapsed claim must return `Lost`"
        );
        self.assert_cannot_complete(&attempt, "`complete` of a lapsed claim must return `Lost`")
            .await;
        self.release(&attempt).await;
        self.assert_running(attempt.key, "after the calls of a lapsed token").await;
        self.assert_completes(
            &successor,
            record("kept"),
            "`complete` by the successor must return `Held`",
        )
        .await;
        self.assert_stored(attempt.key, &record("kept"), "after `complete` by the successor").await;
    }
}
