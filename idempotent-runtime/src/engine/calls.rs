//! The store's methods as the engine calls them: within the time limit, and `claim` up to twice.
//!
//! A store in memory answers at once. The futures that every other store needs are boxed, so that
//! they take no room in a request that does not need them.

use std::{future::Future, time::Duration};

use bytes::Bytes;

use super::{event::StoreVerb, job::Job, near::Moment, record, settings::Engine};
use crate::store::{Claim, Hold, StoreError};

impl Job {
    /// Claims the key or reads it.
    pub(super) async fn claim(&self) -> Result<Claim, StoreError> {
        if let Some(claim) = self.engine.store.claim_at_once(&self.attempt) {
            return Ok(claim);
        }
        Box::pin(self.claim_twice()).await
    }

    /// Claims the key or reads it; a failed call is retried once within the time limit.
    ///
    /// If there is no answer, the claim may nevertheless have been made, so it is released in the
    /// background, even if the caller goes away while waiting for the answer.
    async fn claim_twice(&self) -> Result<Claim, StoreError> {
        let mut unknown = UnknownClaim { job: self, is_possible: true };
        let twice = async {
            let first = match self.claim_once().await {
                // An entry of another release is an answer.
                Err(error) if !error.is_foreign_entry() => error,
                claim => return claim,
            };
            tracing::debug!(
                target: crate::TARGET,
                error = &first as &dyn std::error::Error,
                "claiming an idempotency key failed, retrying"
            );
            match self.claim_once().await {
                // The first call may have arrived.
                Err(second) if second.is_not_sent() && !first.is_not_sent() => Err(first),
                claim => claim,
            }
        };
        let claim = self.within_limit(twice).await;
        unknown.is_possible = claim.as_ref().is_err_and(|error| !error.is_not_sent());
        claim
    }

    async fn claim_once(&self) -> Result<Claim, StoreError> {
        let timed = self.timed(StoreVerb::Claim);
        timed.end(self.engine.store.store().claim(&self.attempt, self.engine.lease).await)
    }

    /// Claims the key again for an existing record. If there is no answer, the token is not
    /// released: the claim belongs to it.
    pub(super) async fn claim_again(&self) -> Result<Claim, StoreError> {
        self.within_limit(self.claim_once()).await
    }

    /// Extends the claim by another `lease`.
    pub(super) async fn renew(&self, lease: Duration) -> Result<Hold, StoreError> {
        let renew = async {
            let timed = self.timed(StoreVerb::Renew);
            timed.end(self.engine.store.store().renew(&self.attempt, lease).await)
        };
        self.within_limit(renew).await
    }

    /// Stores `record`, first passed to the store at `first`, or a note in its place if the store
    /// can never accept it.
    pub(super) async fn complete(
        &self,
        record: &mut Bytes,
        first: Option<Moment>,
    ) -> Result<Hold, StoreError> {
        let result = match self.complete_with(record).await {
            Err(error) if error.is_too_large() => {
                *record = record::not_stored();
                Box::pin(self.complete_with(record)).await
            }
            result => result,
        };
        if let Ok(Hold::Held) = result {
            self.copy_stored(first, record);
        }
        result
    }

    async fn complete_with(&self, record: &Bytes) -> Result<Hold, StoreError> {
        let Self { engine, attempt, ttl, extracted, .. } = self;
        if let Some(result) = engine.store.complete_at_once(attempt, record, *ttl, *extracted) {
            return result;
        }
        let record = engine.write_record(attempt, record)?;
        let complete = async {
            let timed = self.timed(StoreVerb::Complete);
            timed.end(engine.store.store().complete(attempt, record, *ttl).await)
        };
        Box::pin(self.within_limit(complete)).await
    }

    /// Frees the key.
    pub(super) async fn try_release(&self) -> Result<(), StoreError> {
        if self.engine.store.release_at_once(&self.attempt).is_some() {
            return Ok(());
        }
        let release = async {
            let timed = self.timed(StoreVerb::Release);
            timed.end(self.engine.store.store().release(&self.attempt).await)
        };
        Box::pin(self.within_limit(release)).await
    }

    /// Makes a call within the time limit, and records whether the store answered.
    pub(super) async fn within_limit<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.engine.within_limit(call).await
    }
}

impl Engine {
    /// Makes a call within the time limit, and records whether the store answered.
    pub(super) async fn within_limit<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let in_time = tokio::time::timeout(self.store_timeout, call).await;
        self.note(in_time.unwrap_or_else(|_| Err(StoreError::timed_out())))
    }

    /// Records whether the store answered.
    pub(super) fn note<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match &result {
            Err(error) if error.is_outage() => self.outage.failed(error),
            _ => self.outage.answered(),
        }
        result
    }
}

/// A claim that may or may not have been made.
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
