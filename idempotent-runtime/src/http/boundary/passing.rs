//! [`Run`]: decides what happens to a run by what passes its boundary.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, resume_unwind},
};

use axum::response::Response;
use futures_util::FutureExt as _;
use http::StatusCode;

#[cfg(feature = "postgres")]
use crate::engine::Unkeyed;
use crate::{
    engine::{Claimed, Keep, Settled, record},
    http::{
        keep::{Keeping, take_over},
        outcome::Outcome,
    },
};

/// What passes a boundary: a response, an error from the service inside, or a panic.
pub(in crate::http) type Passing<E> = Result<Result<Response, E>, Panic>;

pub(in crate::http) type Panic = Box<dyn Any + Send>;

/// A run that its boundary settles.
pub(in crate::http) struct Run {
    pub(in crate::http) held: Held,
    pub(in crate::http) keeping: Keeping,
    pub(super) progress: Progress,
}

/// What has to be settled.
#[allow(clippy::large_enum_variant, reason = "a box would cost each request an allocation")]
pub(in crate::http) enum Held {
    Claim(Claimed),
    /// The transaction of a handler without a key.
    #[cfg(feature = "postgres")]
    Transaction(Unkeyed),
    /// Nothing: the store was unreachable.
    Nothing,
}

/// How far a run's handler has come.
#[derive(Clone, Copy)]
pub(super) enum Progress {
    /// It is running or waiting, possibly in its own task.
    Running,
    /// It returned this status, and this `Outcome` with its response.
    Ended(StatusCode, Option<Outcome>),
    Panicked,
    /// A layer dropped it before it finished.
    CutShort,
    /// It did not finish, and whatever it wrote is in a transaction, to be rolled back.
    Undone,
}

impl Run {
    /// A run whose handler is about to start.
    pub(in crate::http) fn new(held: Held, keeping: Keeping) -> Self {
        Self { held, keeping, progress: Progress::Running }
    }

    pub(super) fn is_in_transaction(&self) -> bool {
        matches!(&self.held, Held::Claim(claimed) if claimed.is_in_transaction())
    }

    /// Stores what is kept of the passing response, or releases the key; then returns what is sent.
    ///
    /// # Panics
    ///
    /// Panics if a panic passes.
    pub(in crate::http) async fn settle<E>(self, passing: Passing<E>) -> Result<Response, E> {
        let Self { held, keeping, progress } = self;
        let mut claimed = match held {
            Held::Claim(claimed) => claimed,
            #[cfg(feature = "postgres")]
            Held::Transaction(transaction) => {
                return commit(transaction, &keeping, progress, passing).await;
            }
            Held::Nothing => return passed(passing),
        };
        let progress = progress.of_run_in(claimed.is_in_transaction());
        let (keep, own) = match passing {
            Ok(Ok(response)) => {
                let kept = AssertUnwindSafe(progress.keep(&keeping, response)).catch_unwind().await;
                match kept {
                    Ok((keep, response)) => (keep, Ok(Ok(response))),
                    Err(panic) => (progress.keep_of_failure(), Err(panic)),
                }
            }
            failure => (progress.keep_of_failure(), failure),
        };
        if let Ok(Ok(response)) = &own {
            claimed.answers_with(response.status().as_u16());
        }
        let mut other = match claimed.settle(keep).await {
            Settled::Own => return passed(own),
            Settled::Stored(answer) => keeping.settings.replay(answer),
            Settled::Refused(refusal) => keeping.settings.refuse(refusal),
        };
        if let Ok(Ok(own)) = own {
            take_over(own.headers(), &mut other);
        }
        Ok(other)
    }
}

/// Commits or rolls back `transaction`, depending on what passes; then returns what is sent.
///
/// # Panics
///
/// Panics if a panic passes.
#[cfg(feature = "postgres")]
async fn commit<E>(
    transaction: Unkeyed,
    keeping: &Keeping,
    progress: Progress,
    mut passing: Passing<E>,
) -> Result<Response, E> {
    let is_effective = match &mut passing {
        Ok(Ok(response)) => {
            progress.of_run_in(true).put_word(response);
            keeping.is_effective(response)
        }
        Ok(Err(_)) | Err(_) => false,
    };
    match (transaction.settle(is_effective).await, passing) {
        (Err(refusal), Ok(Ok(own))) => {
            let mut other = keeping.settings.refuse(refusal);
            take_over(own.headers(), &mut other);
            Ok(other)
        }
        (_, passing) => passed(passing),
    }
}

/// Hands what passes to the caller.
///
/// # Panics
///
/// Panics if a panic passes.
pub(super) fn passed<E>(passing: Passing<E>) -> Result<Response, E> {
    passing.unwrap_or_else(|panic| resume_unwind(panic))
}

impl Progress {
    /// Whether the handler may be tried again.
    pub(super) fn is_over(self) -> bool {
        !matches!(self, Self::Running)
    }

    /// In a transaction, a handler that did not finish has done nothing, whatever a layer says:
    /// half of its rows must not be committed.
    fn of_run_in(self, transaction: bool) -> Self {
        match self {
            Self::CutShort | Self::Panicked if transaction => Self::Undone,
            progress => progress,
        }
    }

    /// Puts the outcome that counts on a passing response.
    fn put_word(self, response: &mut Response) -> Option<Outcome> {
        // The handler's own outcome was taken out before: this one is a layer's.
        let word = response.extensions_mut().remove::<Outcome>();
        let word = self.word(response.status(), word);
        if let Some(word) = word {
            response.extensions_mut().insert(word);
        }
        word
    }

    /// What is kept of a passing response, and the response that is sent.
    async fn keep(self, keeping: &Keeping, mut response: Response) -> (Keep, Response) {
        let word = self.put_word(&mut response);
        match keeping.keep(response).await {
            // Releasing the key would let the next request run alongside the handler.
            (Keep::Nothing, response) if !self.is_over() && word != Some(Outcome::Retryable) => {
                (Keep::Record(record::unknown()), response)
            }
            kept => kept,
        }
    }

    /// The outcome that counts for a response with this `status`, on which a layer put `word`.
    fn word(self, status: StatusCode, word: Option<Outcome>) -> Option<Outcome> {
        match self {
            Self::Ended(_, Some(Outcome::Unknown)) => Some(Outcome::Unknown),
            Self::Ended(given, own) => word.or(own.filter(|_| given == status)),
            Self::Panicked => word.or(Some(Outcome::Retryable)),
            Self::CutShort => word.or(Some(Outcome::Unknown)),
            Self::Undone => Some(Outcome::Retryable),
            Self::Running => word,
        }
    }

    /// What is kept if no response passes.
    fn keep_of_failure(self) -> Keep {
        match self {
            Self::Ended(_, Some(Outcome::Unknown)) | Self::CutShort | Self::Running => {
                Keep::Record(record::unknown())
            }
            Self::Ended(..) | Self::Panicked | Self::Undone => Keep::Nothing,
        }
    }
}
