//! `renew`: extends the claim of its token, and nothing else.

use super::{Suite, attempt_at, fresh_key, record};
use crate::{Hold, Store};

impl<S: Store> Suite<S> {
    pub(super) async fn renew_is_fenced_by_the_token(&self) {
        let attempt = self.claimed().await;
        assert_eq!(
            self.renew(&attempt).await,
            Hold::Held,
            "`renew` by the holder must return `Held`"
        );
        assert_eq!(self.renew(&attempt).await, Hold::Held, "a repeated `renew` must return `Held`");
        let stranger = attempt_at(attempt.key);
        assert_eq!(
            self.renew(&stranger).await,
            Hold::Lost,
            "`renew` by another token must return `Lost`"
        );
        self.assert_running(attempt.key, "after renewals").await;
        self.assert_completes(
            &attempt,
            record("kept"),
            "`complete` by the holder must return `Held`",
        )
        .await;
        assert_eq!(
            self.renew(&attempt).await,
            Hold::Lost,
            "`renew` of a completed claim must return `Lost`"
        );
        let why = "after `renew` of a completed key";
        self.assert_stored(attempt.key, &record("kept"), why).await;
        let absent = attempt_at(fresh_key());
        assert_eq!(
            self.renew(&absent).await,
            Hold::Lost,
            "`renew` without a claim must return `Lost`"
        );
        self.assert_absent(absent.key, "after `renew` without a claim").await;
    }
}
