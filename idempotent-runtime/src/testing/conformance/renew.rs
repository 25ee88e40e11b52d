//! `renew`: extends the claim of its token, and nothing else.

use super::{Suite, attempt_at, fresh_key, record};
use crate::{Hold, Store};

impl<S: Store> Suite<S> {
    pub(super) async fn renew_is_fenced_by_the_token(&self) {
        let attempt = self.claimed().await;
        assert_eq!(self.renew(&attempt).await, Hold::Held, "the holder renews");
        assert_eq!(self.renew(&attempt).await, Hold::Held, "and may repeat it");
        let stranger = attempt_at(attempt.key);
        assert_eq!(self.renew(&stranger).await, Hold::Lost, "a stranger renews");
        self.assert_running(attempt.key, "after renewals").await;
        self.assert_completes(&attempt, record("kept"), "the holder completes").await;
        assert_eq!(self.renew(&attempt).await, Hold::Lost, "a completed claim is renewed");
        let why = "after `renew` of a completed key";
        self.assert_stored(attempt.key, &record("kept"), why).await;
        let absent = attempt_at(fresh_key());
        assert_eq!(self.renew(&absent).await, Hold::Lost, "an absent claim is renewed");
        self.assert_absent(absent.key, "after `renew` without a claim").await;
    }
}
