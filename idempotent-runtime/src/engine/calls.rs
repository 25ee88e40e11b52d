//! The store's verbs as the engine calls them: within the time limit, a claim twice.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;

use super::{job::Job, record};
use crate::store::{Claim, Hold, StoreError};

impl Job {
    /// Claims the key or reads it; a failed call is tried once more within the time limit.
    ///
    /// If the answer does not come, the claim may have been made nevertheless: it is released in
    /// the background, also if the caller goes away while it waits for the answer.
    pub(super) async fn claim(&self) -> Result<Claim, StoreError> {
        let mut unknown = UnknownClaim { job: self, is_possible: true };
        let twice = async {
            match self.claim_once().await {
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "claiming failed, trying again"
                    );
                    match self.claim_once().await {
                        // The first call may have arrived.
                        Err(again) if again.is_not_sent() && !error.is_not_sent() => Err(error),
                        claim => claim,
                    }
                }
                claim => claim,
            }
        };
        let claim = within(self.engine.store_timeout, pin!(twice)).await;
        unknown.is_possible = claim.as_ref().is_err_and(|error| !error.is_not_sent());
        claim
    }

    pub(super) async fn claim_once(&self) -> Result<Claim, StoreError> {
        self.engine.store.claim(&self.attempt, self.engine.lease).await
    }

    /// Holds the claim for another `lease`.
    pub(super) async fn renew(&self, lease: Duration) -> Result<Hold, StoreError> {
        within(self.engine.store_timeout, pin!(self.engine.store.renew(&self.attempt, lease))).await
    }

    /// Stores `record`, or a note if the store can never take it.
    pub(super) async fn complete(&self, record: Bytes) -> Result<Hold, StoreError> {
        match self.complete_with(record).await {
            Err(error) if error.is_too_large() => self.complete_with(record::not_stored()).await,
            result => result,
        }
    }

    async fn complete_with(&self, record: Bytes) -> Result<Hold, StoreError> {
        let Self { engine, attempt, ttl, extracted, .. } = self;
        let complete = engine.store.complete(attempt, record, *ttl, *extracted);
        within(engine.store_timeout, pin!(complete)).await
    }

    /// Frees the key.
    pub(super) async fn try_release(&self) -> Result<(), StoreError> {
        within(self.engine.store_timeout, pin!(self.engine.store.release(&self.attempt))).await
    }
}

/// A claim of which nobody knows whether it was made.
struct UnknownClaim<'a> {
    job: &'a Job,
    is_possible: bool,
}

impl Drop for UnknownClaim<'_> {
    fn drop(&mut self) {
        if self.is_possible {
            self.job.release_given_up();
        }
    }
}

/// Runs a store call within `limit`.
pub(super) async fn within<T>(
    limit: Duration,
    mut call: Pin<&mut impl Future<Output = Result<T, StoreError>>>,
) -> Result<T, StoreError> {
    // A store in memory answers at once: it needs no timer, and no room for one.
    if let Poll::Ready(result) = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await {
        return result;
    }
    let in_time = Box::pin(tokio::time::timeout(limit, call));
    in_time.await.unwrap_or_else(|_| Err(StoreError::timed_out()))
}
