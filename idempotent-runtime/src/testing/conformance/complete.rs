//! `complete`: the holder's record replaces its claim, whole and at once.

use bytes::Bytes;

use super::{LONG, ROUNDS, Suite, attempt_at, fingerprint, fresh_key, is_claimed, record};
use crate::{Attempt, Claim, Store, Token};

impl<S: Store> Suite<S> {
    pub(super) async fn a_record_replaces_its_claim(&self) {
        let attempt = self.stored("kept").await;
        let other = Attempt::new(attempt.key, fingerprint(2), Token::random());
        match self.claim(&other).await {
            Claim::Stored { fingerprint: found, record: kept, expires_in } => {
                assert_eq!(
                    found,
                    fingerprint(1),
                    "a record must show the fingerprint of its claim"
                );
                assert_eq!(kept, record("kept"));
                assert!(expires_in <= LONG, "`expires_in` exceeds the ttl");
                assert!(expires_in > LONG / 2, "`expires_in` is far less than the ttl");
            }
            claim => panic!("a completed key must be stored, not {claim:?}"),
        }
        let own = self.claim(&attempt).await;
        assert!(
            matches!(own, Claim::Stored { .. }),
            "a completed key must be stored for its own token as well, not {own:?}"
        );
    }

    pub(super) async fn a_record_comes_back_byte_for_byte(&self) {
        let all_bytes = (0..=u8::MAX).collect::<Bytes>();
        for record in [Bytes::new(), all_bytes.clone(), all_bytes.repeat(128).into()] {
            let attempt = self.claimed().await;
            self.assert_completes(
                &attempt,
                record.clone(),
                "`complete` by the holder must return `Held`",
            )
            .await;
            self.assert_stored(attempt.key, &record, "after `complete`, byte for byte").await;
        }
    }

    pub(super) async fn complete_is_fenced_by_the_token(&self) {
        let attempt = self.claimed().await;
        let stranger = attempt_at(attempt.key);
        self.assert_cannot_complete(&stranger, "`complete` by another token must return `Lost`")
            .await;
        self.assert_running(attempt.key, "after `complete` by another token").await;
        self.assert_completes(
            &attempt,
            record("first"),
            "`complete` by the holder must return `Held`",
        )
        .await;
        self.assert_completes(
            &attempt,
            record("first"),
            "a repeated `complete` must return `Held`",
        )
        .await;
        self.assert_completes(
            &attempt,
            record("second"),
            "`complete` repeated with another record must return `Held`",
        )
        .await;
        self.assert_cannot_complete(
            &stranger,
            "`complete` of a stored key by another token must return `Lost`",
        )
        .await;
        let why = "after a late `complete` by another token";
        self.assert_stored(attempt.key, &record("first"), why).await;
        let absent = attempt_at(fresh_key());
        self.assert_cannot_complete(&absent, "`complete` without a claim must return `Lost`").await;
        self.assert_absent(absent.key, "after `complete` without a claim").await;
    }

    pub(super) async fn no_moment_shows_a_completed_key_as_absent(&self) {
        for _ in 0..ROUNDS / 4 {
            let attempt = self.claimed().await;
            let key = attempt.key;
            let readers = self.on_threads(move |suite| async move { suite.look(key).await });
            let (claims, ()) = tokio::join!(
                readers,
                self.assert_completes(
                    &attempt,
                    record("kept"),
                    "`complete` by the holder must return `Held`"
                )
            );
            assert!(
                !claims.iter().any(is_claimed),
                "a key was claimed while its holder completed it"
            );
        }
    }
}
