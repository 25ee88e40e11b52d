//! `read`: what a key holds. The expiry checks make sure that it extends nothing.

use super::{
    LONG, Suite, assert_lease_left, assert_own_fingerprint, attempt_at, fingerprint, fresh_key,
    is_claimed, record,
};
use crate::{Claim, Hold, KeyState, Store};

impl<S: Store> Suite<S> {
    pub(super) async fn read_tells_every_state_and_changes_none(&self) {
        let attempt = attempt_at(fresh_key());
        for _ in 0..2 {
            assert_eq!(self.read(attempt.key).await, KeyState::Absent, "`read` of an absent key");
        }
        let Claim::Claimed { lease } = self.claim(&attempt).await else {
            panic!("after `read`: the key must be absent");
        };
        for _ in 0..2 {
            match self.read(attempt.key).await {
                KeyState::Running { fingerprint, lease_left, .. } => {
                    assert_own_fingerprint(fingerprint);
                    assert_lease_left(lease_left, lease);
                }
                state => panic!("`read` of a running key finds {state:?}"),
            }
        }
        let own = self.claim(&attempt).await;
        assert!(is_claimed(&own), "after `read`: the token must still hold its claim, not {own:?}");
        assert_eq!(
            self.renew(&attempt).await,
            Hold::Held,
            "after `read`: `renew` by the holder must return `Held`"
        );
        self.assert_completes(
            &attempt,
            record("kept"),
            "after `read`: `complete` by the holder must return `Held`",
        )
        .await;
        for _ in 0..2 {
            match self.read(attempt.key).await {
                KeyState::Stored { fingerprint: found, record: kept, expires_in } => {
                    assert_eq!(
                        found,
                        fingerprint(1),
                        "`read` must show the fingerprint of the claim"
                    );
                    assert_eq!(kept, record("kept"), "`read` must show the record");
                    assert!(expires_in <= LONG, "`expires_in` exceeds the ttl");
                    assert!(expires_in > LONG / 2, "`expires_in` is far less than the ttl");
                }
                state => panic!("`read` of a stored key finds {state:?}"),
            }
        }
        self.assert_stored(attempt.key, &record("kept"), "after `read`").await;

        let released = self.claimed().await;
        self.release(&released).await;
        assert_eq!(self.read(released.key).await, KeyState::Absent, "`read` of a released key");
    }
}
