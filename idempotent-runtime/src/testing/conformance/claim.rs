//! `claim`: one of many gets an absent key, and everyone else learns what it holds.

use super::{
    LONG, ROUNDS, Suite, assert_lease_left, assert_own_fingerprint, attempt_at, fingerprint,
    fresh_key, is_claimed, poll_once, record,
};
use crate::{Attempt, Claim, KeyState, Store, Token};

impl<S: Store> Suite<S> {
    pub(super) async fn a_claim_is_read_by_others_and_kept_by_its_token(&self) {
        let attempt = attempt_at(fresh_key());
        let Claim::Claimed { lease } = self.claim(&attempt).await else {
            panic!("an absent key must be claimed");
        };
        let other = Attempt::new(attempt.key, fingerprint(2), Token::random());
        match self.claim(&other).await {
            Claim::Running { fingerprint, lease_left, .. } => {
                assert_own_fingerprint(fingerprint);
                assert_lease_left(lease_left, lease);
            }
            claim => panic!("a claimed key must be running for other tokens, not {claim:?}"),
        }
        let again = self.claim(&attempt).await;
        assert!(
            is_claimed(&again),
            "a claim repeated with its token must be `Claimed`, not {again:?}"
        );
        self.assert_running(attempt.key, "after a repeated claim").await;
    }

    pub(super) async fn keys_do_not_meet(&self) {
        let first = self.claimed().await;
        let second = Attempt::new(fresh_key(), fingerprint(1), first.token);
        assert!(is_claimed(&self.claim(&second).await), "one token may hold two keys");
        self.assert_completes(
            &first,
            record("first"),
            "`complete` by the holder must return `Held`",
        )
        .await;
        self.assert_running(second.key, "after another key of the same token was completed").await;
        self.release(&second).await;
        let why = "after another key of the same token was released";
        self.assert_stored(first.key, &record("first"), why).await;
    }

    pub(super) async fn a_cancelled_call_can_be_repeated(&self) {
        for _ in 0..ROUNDS / 10 {
            let attempt = attempt_at(fresh_key());
            poll_once(self.store.claim(&attempt, LONG)).await;
            let claim = self.claim(&attempt).await;
            assert!(
                is_claimed(&claim),
                "`claim` must be repeatable after a cancelled call: {claim:?}"
            );
            poll_once(self.store.wait(attempt.key, LONG)).await;
            poll_once(self.store.read(attempt.key)).await;
            poll_once(self.store.renew(&attempt, LONG)).await;
            poll_once(self.store.complete(&attempt, record("kept"), LONG)).await;
            let why = "`complete` must be repeatable after a cancelled call";
            self.assert_completes(&attempt, record("kept"), why).await;
            self.assert_stored(attempt.key, &record("kept"), "after cancelled calls").await;

            let gone = self.stored("gone").await.key;
            poll_once(self.store.forget(gone, false)).await;
            // Freed by this call or by the cancelled one.
            let _ = self.forget(gone, false).await;
            let state = self.read(gone).await;
            assert_eq!(
                state,
                KeyState::Absent,
                "`forget` must be repeatable after a cancelled call"
            );
        }
    }

    pub(super) async fn one_of_many_threads_claims(&self) {
        for round in 0..ROUNDS {
            let key = fresh_key();
            let claims = self.on_threads(move |suite| async move { suite.look(key).await }).await;
            let winners = claims.iter().filter(|claim| is_claimed(claim)).count();
            assert_eq!(
                winners, 1,
                "exactly one of many threads must claim the key, in round {round}"
            );
        }
    }
}
