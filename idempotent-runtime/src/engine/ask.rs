//! Asking the store until it says what to do.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;

use super::{
    claimed::Claimed,
    job::Job,
    record::{self, Form, Record, Unreadable},
    settings::OnStoreError,
    waiting::{Waiting, WaitingBytes},
};
use crate::store::{BoxFuture, Claim, Fingerprint, StoreError};

/// What a job finds.
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

/// Asking the store. Whether memory has let the key be claimed is known without a future.
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

    async fn follow(self, claim: Option<Result<Claim, StoreError>>) -> Found {
        let claim = match claim {
            Some(claim) => claim,
            None => self.claim().await,
        };
        match claim {
            Ok(Claim::Claimed { lease }) => self.claimed(lease),
            Ok(Claim::Stored { fingerprint, record, .. }) => {
                self.answer_in(fingerprint, record).into()
            }
            Ok(Claim::Running { fingerprint, lease_left }) => {
                self.wait_and_ask(fingerprint, lease_left).await
            }
            Err(error) => self.without_store(&error),
        }
    }

    /// The key is claimed: the job runs, or frees it if it must not.
    fn claimed(self, lease: Option<Duration>) -> Found {
        if self.engine.is_full() {
            self.release_without_waiting();
            return Found::Refused(Refusal::TooManyRuns);
        }
        Found::Claimed(Claimed::new(self, lease))
    }

    /// Waits for the running request, and for those that take over from it.
    async fn wait_and_ask(
        self,
        mut running: Option<Fingerprint>,
        mut lease_left: Option<Duration>,
    ) -> Found {
        let Some(_held) = WaitingBytes::hold(self.input_bytes, self.engine.max_waiting_bytes)
        else {
            return Found::Refused(self.refusal_without_waiting(running));
        };
        let mut waiting = Waiting::new(&self);
        loop {
            if let Err(refusal) = waiting.wait(running, lease_left).await {
                return Found::Refused(refusal);
            }
            match self.claim().await {
                Ok(Claim::Claimed { lease }) => {
                    return self.claimed(lease);
                }
                Ok(Claim::Stored { fingerprint, record, .. }) => {
                    return self.answer_in(fingerprint, record).into();
                }
                Ok(Claim::Running { fingerprint, lease_left: left }) => {
                    (running, lease_left) = (fingerprint, left);
                }
                // It has seen a running claim: to run now could be a second run.
                Err(_) => return Found::Refused(Refusal::StoreUnavailable),
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
            Ok(Record::Answer(answer) | Record::Value(answer)) => {
                tracing::debug!(%key, "response replayed");
                Ok(answer)
            }
            Ok(Record::NotStored) => Err(Refusal::ResponseNotStored),
            Ok(Record::Unknown) => Err(Refusal::OutcomeUnknown),
            Err(Unreadable::UnknownVersion) => {
                tracing::warn!(%key, "a stored response has a format of another release");
                Err(Refusal::StoreUnavailable)
            }
            Err(Unreadable::Corrupt) => {
                tracing::error!(%key, "a stored response is damaged");
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
