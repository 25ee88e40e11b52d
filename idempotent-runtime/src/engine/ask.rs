//! Asks the store until the answer is final.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;

use super::{
    ProblemCode,
    claimed::Claimed,
    event::Replayed,
    job::Job,
    near::Moment,
    record::{Form, Record, Unreadable},
    settings::OnStoreError,
    waiting::{Waiting, WaitingBytes},
};
use crate::store::{BoxFuture, Claim, Fingerprint, StoreError};

/// What a job finds.
#[allow(clippy::large_enum_variant, reason = "a box would cost each request an allocation")]
pub(crate) enum Found {
    /// Its key is claimed: do the work, then settle.
    Claimed(Claimed),
    /// The store could not be asked, and the service chose to run regardless.
    Unprotected,
    /// The answer to replay, and where it comes from.
    Stored(Bytes, Replayed),
    Refused(Refusal),
}

/// Why a job neither runs nor gets a stored answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The key was used for a different request.
    KeyReused,
    /// The key holds a response although this is a job, or the reverse.
    OtherKind,
    /// The run that holds the key did not finish in time.
    RequestInProgress,
    /// The work is done, but its answer could not be stored.
    ResponseNotStored,
    /// It is unknown whether the work took effect.
    OutcomeUnknown,
    /// The store cannot say what the key holds.
    StoreUnavailable,
    /// Too many runs have outlived their callers.
    TooManyRuns,
    /// The work was rolled back and may succeed if retried.
    #[cfg(feature = "postgres")]
    RolledBack,
    /// The work could not be committed.
    #[cfg(feature = "postgres")]
    TransactionFailed,
}

impl Refusal {
    /// The code that the caller sees.
    pub(crate) fn code(self) -> ProblemCode {
        match self {
            Self::KeyReused | Self::OtherKind => ProblemCode::KeyReused,
            Self::RequestInProgress => ProblemCode::RequestInProgress,
            Self::ResponseNotStored => ProblemCode::ResponseNotStored,
            Self::OutcomeUnknown => ProblemCode::OutcomeUnknown,
            Self::StoreUnavailable => ProblemCode::StoreUnavailable,
            Self::TooManyRuns => ProblemCode::TooManyRuns,
            #[cfg(feature = "postgres")]
            Self::RolledBack => ProblemCode::StoreUnavailable,
            #[cfg(feature = "postgres")]
            Self::TransactionFailed => ProblemCode::TransactionFailed,
        }
    }
}

/// Asking the store. If the store is in memory, whether the key is claimed is known without a
/// future.
#[allow(clippy::large_enum_variant, reason = "a box would cost each request an allocation")]
pub(crate) enum Asking {
    /// `None` once it has been returned.
    Found(Option<Found>),
    Asked(BoxFuture<'static, Found>),
}

impl Future for Asking {
    type Output = Found;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Found> {
        match self.get_mut() {
            Self::Found(found) => {
                Poll::Ready(found.take().expect("the future was polled after completion"))
            }
            Self::Asked(asked) => asked.as_mut().poll(cx),
        }
    }
}

impl From<Refusal> for Found {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Job {
    /// Asks the store until it says what to do.
    pub(crate) fn ask(self) -> Asking {
        #[cfg(feature = "postgres")]
        if let Some(slot) = self.transaction.clone() {
            return Asking::Asked(Box::pin(self.ask_in_transaction(slot)));
        }
        match self.engine.store.claim_at_once(&self.attempt) {
            Some(Claim::Claimed { lease }) => Asking::Found(Some(self.claimed(lease))),
            Some(claim) => Asking::Asked(Box::pin(self.follow(Some(Ok(claim))))),
            None => match self.near() {
                Some(found) => Asking::Found(Some(self.told(found))),
                None => Asking::Asked(Box::pin(self.follow(None))),
            },
        }
    }

    async fn follow(mut self, claim: Option<Result<Claim, StoreError>>) -> Found {
        match self.find(claim).await {
            Ok(lease) => self.claimed(lease),
            Err(found) => self.told(found),
        }
    }

    /// Returns the lease of the claim that was made.
    ///
    /// # Errors
    ///
    /// Returns an error if no claim was made: what was found instead.
    async fn find(
        &mut self,
        claim: Option<Result<Claim, StoreError>>,
    ) -> Result<Option<Duration>, Found> {
        let moment = self.engine.near.moment();
        let claim = match claim {
            Some(claim) => claim,
            None => self.claim().await,
        };
        match claim {
            Ok(Claim::Claimed { lease }) => Ok(lease),
            Ok(Claim::Stored { fingerprint, record, expires_in }) => {
                Err(self.found_in(fingerprint, record, expires_in, moment))
            }
            Ok(Claim::Running { fingerprint, lease_left }) => {
                let (input, most) = (self.input_bytes, self.engine.max_waiting_bytes);
                let Some(held) = WaitingBytes::hold(input, most) else {
                    return Err(self.refusal_without_waiting(fingerprint).into());
                };
                let found = self.wait_and_ask(fingerprint, lease_left).await;
                self.watch.has_waited(held.time());
                found
            }
            Err(error) => Err(self.without_store(&error)),
        }
    }

    /// The key is claimed: the job runs, or frees the key if it must not run.
    fn claimed(self, lease: Option<Duration>) -> Found {
        if self.engine.is_full() {
            self.release_without_waiting();
            return self.told(Found::Refused(Refusal::TooManyRuns));
        }
        Found::Claimed(Claimed::new(self, lease))
    }

    /// Waits for the running request, and for those that take over from it.
    async fn wait_and_ask(
        &self,
        mut running: Option<Fingerprint>,
        mut lease_left: Option<Duration>,
    ) -> Result<Option<Duration>, Found> {
        let mut waiting = Waiting::new(self);
        loop {
            waiting.wait(running, lease_left).await?;
            // The run may have ended in this process.
            if let Some(found) = self.near() {
                return Err(found);
            }
            let moment = self.engine.near.moment();
            match self.claim().await {
                Ok(Claim::Claimed { lease }) => return Ok(lease),
                Ok(Claim::Stored { fingerprint, record, expires_in }) => {
                    return Err(self.found_in(fingerprint, record, expires_in, moment));
                }
                Ok(Claim::Running { fingerprint, lease_left: left }) => {
                    (running, lease_left) = (fingerprint, left);
                }
                // A running claim was seen, so running now could be a second run.
                Err(_) => return Err(Refusal::StoreUnavailable.into()),
            }
        }
    }

    /// What this job finds in a stored record that a call made at `moment` or later reported as
    /// held for `expires_in`.
    pub(super) fn found_in(
        &self,
        fingerprint: Fingerprint,
        record: Bytes,
        expires_in: Duration,
        moment: Option<Moment>,
    ) -> Found {
        match self.answer_in(fingerprint, record) {
            Ok(answer) => {
                self.copy_replayed(moment, &answer, expires_in);
                Found::Stored(answer, self.source())
            }
            Err(refusal) => Found::Refused(refusal),
        }
    }

    /// The answer in a stored record, if this job may have it.
    pub(super) fn answer_in(
        &self,
        fingerprint: Fingerprint,
        record: Bytes,
    ) -> Result<Bytes, Refusal> {
        let key = self.attempt.key;
        let record = self.engine.read_record(key, fingerprint, record);
        // If it cannot be opened, it is unknown whether this is the fingerprint it was stored with.
        #[cfg(feature = "seal")]
        let is_known = !matches!(record, Err(Unreadable::NotAdmitted | Unreadable::NotOpened));
        #[cfg(not(feature = "seal"))]
        let is_known = true;
        let form = match &record {
            Ok(Record::Answer(_)) => Form::Answer,
            Ok(Record::Value(_)) => Form::Value,
            Ok(Record::NotStored | Record::Unknown) | Err(_) => self.form,
        };
        if let Some(refusal) = self.refusal_of_other(form, fingerprint).filter(|_| is_known) {
            return Err(refusal);
        }
        match record {
            Ok(Record::Answer(answer) | Record::Value(answer)) => Ok(answer),
            Ok(Record::NotStored) => Err(Refusal::ResponseNotStored),
            Ok(Record::Unknown) => Err(Refusal::OutcomeUnknown),
            Err(Unreadable::UnknownVersion) => {
                tracing::warn!(
                    target: crate::TARGET,
                    %key, "a stored response has the format of another release"
                );
                Err(Refusal::StoreUnavailable)
            }
            Err(Unreadable::Corrupt) => {
                tracing::error!(target: crate::TARGET, %key, "a stored response is corrupt");
                Err(Refusal::OutcomeUnknown)
            }
            #[cfg(feature = "seal")]
            Err(Unreadable::NotAdmitted) => Err(Refusal::StoreUnavailable),
            #[cfg(feature = "seal")]
            Err(Unreadable::NotOpened) => {
                tracing::error!(
                    target: crate::TARGET,
                    %key,
                    "a sealed response does not open: it was changed, it was stored under another \
                     key or fingerprint, or two sealing keys have one id"
                );
                Err(Refusal::OutcomeUnknown)
            }
        }
    }

    /// Why this job may not have an answer of that form, stored by a request with `fingerprint`.
    pub(super) fn refusal_of_other(&self, form: Form, fingerprint: Fingerprint) -> Option<Refusal> {
        if form != self.form {
            return Some(Refusal::OtherKind);
        }
        (fingerprint != self.attempt.fingerprint).then_some(Refusal::KeyReused)
    }

    /// The very first call to the store failed.
    fn without_store(&self, error: &StoreError) -> Found {
        match self.engine.on_store_error {
            OnStoreError::Execute if !error.is_foreign_entry() && !self.engine.is_full() => {
                Found::Unprotected
            }
            OnStoreError::Execute if !error.is_foreign_entry() => {
                Found::Refused(Refusal::TooManyRuns)
            }
            OnStoreError::Execute | OnStoreError::Reject => {
                Found::Refused(Refusal::StoreUnavailable)
            }
        }
    }
}
