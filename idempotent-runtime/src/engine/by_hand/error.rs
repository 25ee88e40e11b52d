//! [`RunError`]: why a `run` returns no value.

use std::{error::Error, fmt};

use crate::engine::Refusal;

/// Why an [`OperationKey::run`](super::OperationKey::run) returns no value.
///
/// ```
/// use idempotent_runtime::RunError;
///
/// let error = RunError::<std::io::Error>::InProgress;
/// assert!(error.is_worth_retrying());
/// assert_eq!(error.to_string(), "another run with the idempotency key did not finish in time");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError<E> {
    /// The work failed with this error, and the key is free again.
    Failed(E),
    /// The key is empty. Nothing was run.
    EmptyKey,
    /// The key was used with another [`fingerprint`](super::OperationKey::fingerprint).
    KeyReused,
    /// Another run with the key did not finish within [`wait`](super::OperationKey::wait).
    InProgress,
    /// The work is done, but its value could not be stored: it was too large, or serde could not
    /// serialize it.
    ValueNotStored,
    /// It is unknown whether the work took effect, or its record is corrupt.
    OutcomeUnknown,
    /// The key holds a value of a different type than requested: one stored by an earlier version
    /// of the type, or the response of an HTTP handler with the operation's name. The source says
    /// which.
    OtherValue(Box<dyn Error + Send + Sync>),
    /// The store cannot say what the key holds.
    StoreUnavailable,
    /// Too many runs have outlived their callers
    /// ([`max_detached_runs`](crate::Idempotency::max_detached_runs)).
    TooManyRuns,
    /// The transaction of [`run_tx`](super::OperationKey::run_tx) was rolled back for a transient
    /// reason, such as a deadlock or a lost session, and the key is free again.
    #[cfg(feature = "postgres")]
    RolledBack,
    /// The transaction of [`run_tx`](super::OperationKey::run_tx) could not be committed for a
    /// reason that a retry will not fix: a deferred constraint, or work that ended the transaction
    /// itself.
    #[cfg(feature = "postgres")]
    TransactionFailed,
    /// [`run_tx`](super::OperationKey::run_tx) needs a [`PostgresStore`](crate::PostgresStore), but
    /// the service uses a different store. Nothing was run.
    #[cfg(feature = "postgres")]
    NoTransactions,
}

impl<E> RunError<E> {
    /// Whether the same call may succeed later. If so, have the message redelivered; otherwise
    /// someone has to look at it.
    ///
    /// For [`Failed`](Self::Failed) it only means that the key is free; whether the work itself is
    /// worth retrying depends on its error.
    ///
    /// ```
    /// # use idempotent_runtime::RunError;
    /// assert!(RunError::<()>::StoreUnavailable.is_worth_retrying());
    /// assert!(!RunError::<()>::KeyReused.is_worth_retrying());
    /// ```
    #[must_use]
    pub fn is_worth_retrying(&self) -> bool {
        match self {
            Self::Failed(_) | Self::InProgress | Self::StoreUnavailable | Self::TooManyRuns => true,
            #[cfg(feature = "postgres")]
            Self::RolledBack => true,
            #[cfg(feature = "postgres")]
            Self::TransactionFailed | Self::NoTransactions => false,
            Self::EmptyKey
            | Self::KeyReused
            | Self::ValueNotStored
            | Self::OutcomeUnknown
            | Self::OtherValue(_) => false,
        }
    }
}

impl<E> From<Refusal> for RunError<E> {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::KeyReused => Self::KeyReused,
            Refusal::OtherKind => {
                Self::OtherValue("it is the response of an HTTP handler, not a value".into())
            }
            Refusal::RequestInProgress => Self::InProgress,
            Refusal::ResponseNotStored => Self::ValueNotStored,
            Refusal::OutcomeUnknown => Self::OutcomeUnknown,
            Refusal::StoreUnavailable => Self::StoreUnavailable,
            Refusal::TooManyRuns => Self::TooManyRuns,
            #[cfg(feature = "postgres")]
            Refusal::RolledBack => Self::RolledBack,
            #[cfg(feature = "postgres")]
            Refusal::TransactionFailed => Self::TransactionFailed,
        }
    }
}

impl<E> fmt::Display for RunError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed(_) => "the work failed",
            Self::EmptyKey => "the idempotency key is empty",
            Self::KeyReused => "the idempotency key is already used for something else",
            Self::InProgress => "another run with the idempotency key did not finish in time",
            Self::ValueNotStored => {
                "the work for the idempotency key is done, but its value could not be stored"
            }
            Self::OutcomeUnknown => {
                "it is unknown whether the work for the idempotency key took effect"
            }
            Self::OtherValue(_) => "the idempotency key holds a different value than requested",
            Self::StoreUnavailable => "the idempotency store is unavailable",
            Self::TooManyRuns => "too many runs have outlived their callers",
            #[cfg(feature = "postgres")]
            Self::RolledBack => "the transaction was rolled back for a transient reason",
            #[cfg(feature = "postgres")]
            Self::TransactionFailed => "the transaction could not be committed",
            #[cfg(feature = "postgres")]
            Self::NoTransactions => "a transaction needs a `PostgresStore`",
        })
    }
}

impl<E: Error + 'static> Error for RunError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            Self::OtherValue(error) => Some(&**error),
            _ => None,
        }
    }
}
