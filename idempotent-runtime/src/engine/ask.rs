//! Asking the store until it says what to do.

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
    job::Job,
    record::{self, Form, Record, Unreadable},
    settings::OnStoreError,
    waiting::{Waiting, WaitingBytes},
};
use crate::store::{BoxFuture, Claim, Fingerprint, StoreError};

/// What a job finds.
#[allow(clippy::large_enum_variant, reason = "a box would cost each request an allocation")]
pub(crate) enum Found {
    /// Its key is claimed: do the work, and settle.
    Claimed(Claimed),
    /// The store could not be asked, and the service prefers to run.
    Unprotected,
    /// The answer to replay.
    Stored(Bytes),
    Refused(Refusal),
}

/// Why a job neither runs nor gets a stored answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Another request has used the key.
    KeyReused,
    /// The key holds an answer although this is a job, or the reverse.
    OtherKind,
    /// The run that holds the key has not ended in time.
    RequestInProgress,
    /// The work is done, its answer could not be stored.
    ResponseNotStored,
    /// Whether the work took effect is not known.
    OutcomeUnknown,
    /// The store cannot say what the key holds.
    StoreUnavailable,
    /// Too many runs have outlived their callers.
    TooManyRuns,
    /// The work was rolled back, and may succeed another time.
    #[cfg(feature = "postgres")]
    RolledBack,
    /// The work could not be committed.
    #[cfg(feature = "postgres")]
    TransactionFailed,
}

impl Refusal {
    /// Its code, for the caller.
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

/// Asking the store. Whether memory has let the key be claimed is known without a future.
#[allow(clippy::large_enum_variant, reason = "a box would cost each request an allocation")]
pub(crate) enum Asking {
    /// `None` once it was told.
    Found(Option<Found>),
    Asked(BoxFuture<'static, Found>),
}

impl Future for Asking {
    type Output = Found;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Found> {
        match self.get_mut() {
            Self::Found(found) => {
                Poll::Ready(found.take().expect("a future is not polled after its end"))
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

impl From<Result<Bytes, Refusal>> for Found {
    fn from(answer: Result<Bytes, Refusal>) -> Self {
        answer.map_or_else(Self::Refused, Self::Stored)
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
            claim => Asking::Asked(Box::pin(self.follow(claim.map(Ok)))),
        }
    }

    async fn follow(mut self, claim: Option<Result<Claim, StoreError>>) -> Found {
        match self.find(claim).await {
            Ok(lease) => self.claimed(lease),
            Err(found) => self.told(found),
        }
    }

    /// The lease of the claim that was made.
    ///
    /// # Errors
    ///
    /// Returns what was found if that is no claim.
    async fn find(
        &mut self,
        claim: Option<Result<Claim, StoreError>>,
    ) -> Result<Option<Duration>, Found> {
        let claim = match claim {
            Some(claim) => claim,
            None => self.claim().await,
        };
        match claim {
            Ok(Claim::Claimed { lease }) => Ok(lease),
            Ok(Claim::Stored { fingerprint, record, .. }) => {
                Err(self.answer_in(fingerprint, record).into())
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

    /// The key is claimed: the job runs, or frees it if it must not.
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
            match self.claim().await {
                Ok(Claim::Claimed { lease }) => return Ok(lease),
                Ok(Claim::Stored { fingerprint, record, .. }) => {
                    return Err(self.answer_in(fingerprint, record).into());
                }
                Ok(Claim::Running { fingerprint, lease_left: left }) => {
                    (running, lease_left) = (fingerprint, left);
                }
                // It has seen a running claim: to run now could be a second run.
                Err(_) => return Err(Refusal::StoreUnavailable.into()),
            }
        }
    }

    /// The answer in a stored record, if this job may have it.
    pub(super) fn answer_in(
        &self,
        fingerprint: Fingerprint,
        record: Bytes,
    ) -> Result<Bytes, Refusal> {
        let key = self.attempt.key;
        let record = record::open(record, self.engine.store.is_memory());
        match (&record, self.form) {
            (Ok(Record::Answer(_)), Form::Value) | (Ok(Record::Value(_)), Form::Answer) => {
                return Err(Refusal::OtherKind);
            }
            _ if fingerprint != self.attempt.fingerprint => return Err(Refusal::KeyReused),
            _ => {}
        }
        match record {
            Ok(Record::Answer(answer) | Record::Value(answer)) => Ok(answer),
            Ok(Record::NotStored) => Err(Refusal::ResponseNotStored),
            Ok(Record::Unknown) => Err(Refusal::OutcomeUnknown),
            Err(Unreadable::UnknownVersion) => {
                tracing::warn!(
                    target: crate::TARGET,
                    %key, "a stored response has a format of another release"
                );
                Err(Refusal::StoreUnavailable)
            }
            Err(Unreadable::Corrupt) => {
                tracing::error!(target: crate::TARGET, %key, "a stored response is damaged");
                Err(Refusal::OutcomeUnknown)
            }
        }
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
