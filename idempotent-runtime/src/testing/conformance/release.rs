//! `release`: frees the run of its token, and nothing else.

use super::{Suite, attempt_at, fresh_key, record};
use crate::Store;

impl<S: Store> Suite<S> {
    pub(super) async fn release_is_fenced_by_the_token(&self) {
        let attempt = self.claimed().await;
        self.release(&attempt_at(attempt.key)).await;
        self.assert_running(attempt.key, "after `release` by another token").await;
        self.release(&attempt).await;
        self.assert_absent(attempt.key, "after `release`").await;
        self.release(&attempt).await;
        self.assert_running(attempt.key, "after a late `release` of an older token").await;

        let attempt = self.stored("kept").await;
        self.release(&attempt).await;
        let why = "after `release` of a completed key";
        self.assert_stored(attempt.key, &record("kept"), why).await;
        self.release(&attempt_at(fresh_key())).await;
    }
}
