//! `forget`: frees a record, and a run only if asked to.

use super::{LONG, ROUNDS, Suite, assert_lease_left, attempt_at, fresh_key, record};
use crate::{Claim, Forgotten, Hold, KeyState, Store};

impl<S: Store> Suite<S> {
    pub(super) async fn forget_frees_a_record(&self) {
        for even_if_running in [false, true] {
            let key = fresh_key();
            assert_eq!(self.forget(key, even_if_running).await, Forgotten::Absent);
            assert_eq!(self.read(key).await, KeyState::Absent, "after `forget` of an absent key");

            let (attempt, other) = (self.stored("gone").await, self.stored("kept").await);
            let key = attempt.key;
            assert_eq!(
                self.forget(key, even_if_running).await,
                Forgotten::Freed,
                "`forget` of a stored key"
            );
            assert_eq!(self.read(key).await, KeyState::Absent, "a forgotten record must be gone");
            assert_eq!(
                self.forget(key, even_if_running).await,
                Forgotten::Absent,
                "a repeated `forget`"
            );
            self.assert_cannot_complete(
                &attempt,
                "`complete` with the token of a forgotten record must return `Lost`",
            )
            .await;
            let why = "after `forget` of a stored key";
            self.assert_absent(key, why).await;
            self.assert_running(key, why).await;
            self.assert_stored(other.key, &record("kept"), "after `forget` of another key").await;
        }
    }

    pub(super) async fn forget_spares_a_run_unless_told_otherwise(&self) {
        let attempt = attempt_at(fresh_key());
        let key = attempt.key;
        let Claim::Claimed { lease } = self.claim(&attempt).await else {
            panic!("an absent key must be claimed");
        };
        match self.forget(key, false).await {
            Forgotten::StillRunning { lease_left } => assert_lease_left(lease_left, lease),
            forgotten => {
                panic!("`forget` must leave a running key alone, not return {forgotten:?}")
            }
        }
        self.assert_running(key, "after `forget` without `even_if_running`").await;
        assert_eq!(
            self.renew(&attempt).await,
            Hold::Held,
            "`renew` after `forget` without `even_if_running` must return `Held`"
        );

        assert_eq!(self.forget(key, true).await, Forgotten::Freed, "`forget` of a running key");
        assert_eq!(self.read(key).await, KeyState::Absent, "a forgotten claim must be gone");
        assert_eq!(
            self.renew(&attempt).await,
            Hold::Lost,
            "`renew` of a forgotten claim must return `Lost`"
        );
        self.assert_cannot_complete(&attempt, "`complete` of a forgotten claim must return `Lost`")
            .await;
        self.release(&attempt).await;
        let next = attempt_at(key);
        let claim = self.claim(&next).await;
        assert!(
            matches!(claim, Claim::Claimed { .. }),
            "after `forget` of a running key: it must be absent, not {claim:?}"
        );
        assert_eq!(
            self.renew(&attempt).await,
            Hold::Lost,
            "`renew` with a forgotten token must return `Lost`"
        );
        self.assert_cannot_complete(
            &attempt,
            "`complete` with a forgotten token must return `Lost`",
        )
        .await;
        self.release(&attempt).await;
        self.assert_completes(
            &next,
            record("next"),
            "`complete` by the next holder must return `Held`",
        )
        .await;
        self.assert_stored(key, &record("next"), "after `complete` by the next holder").await;
    }

    pub(super) async fn one_of_many_threads_frees(&self) {
        for _ in 0..ROUNDS / 10 {
            let key = self.stored("gone").await.key;
            let freed =
                self.on_threads(move |suite| async move { suite.forget(key, false).await }).await;
            let freed = freed.iter().filter(|forgotten| **forgotten == Forgotten::Freed).count();
            assert_eq!(freed, 1, "exactly one of many threads must free the key");
        }
    }

    /// Whichever of the two comes first, the other sees it.
    pub(super) async fn forget_comes_before_or_after_an_end(&self) {
        for _ in 0..ROUNDS / 10 {
            let attempt = self.claimed().await;
            let key = attempt.key;
            let forgotten =
                self.on_threads(move |suite| async move { suite.forget(key, false).await });
            let (forgotten, ()) = tokio::join!(
                forgotten,
                self.assert_completes(
                    &attempt,
                    record("kept"),
                    "`complete` must return `Held`: `forget` leaves a run alone"
                )
            );
            let is_freed = forgotten.contains(&Forgotten::Freed);
            match self.store.read(key).await.expect("`read` must not fail") {
                KeyState::Absent => assert!(is_freed, "a record is gone although nobody freed it"),
                KeyState::Stored { expires_in, .. } => {
                    assert!(!is_freed, "a freed record is still there");
                    assert!(expires_in <= LONG, "`expires_in` exceeds the ttl");
                }
                state => panic!("a completed key must be stored or freed, not {state:?}"),
            }
        }
    }
}
