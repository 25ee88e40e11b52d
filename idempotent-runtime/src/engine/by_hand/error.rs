//! [`RunError`]: why a `run` gives no value.

use std::{error::Error, fmt};

use crate::engine::Refusal;

/// Why an [`OperationKey::run`](super::OperationKey::run) gives no value.
///
/// ```
/// use idempotent_runtime::RunError;
///
/// let error = RunError::<std::io::Error>::InProgress;
/// assert!(error.is_worth_retrying());
/// assert_eq!(error.to_string(), "another run with the idempotency key has not ended in time");
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
    /// Another run with the key has not ended within [`wait`](super::OperationKey::wait).
    InProgress,
    /// The work is done, and its value could not be stored: it was too large, or serde could not
    /// serialise it.
    ValueNotStored,
    /// Nobody knows whether the work took effect, or its record is damaged.
    OutcomeUnknown,
    /// The key holds a value that is not one of the type that was asked for: one of an earlier
    /// version of the type, or the response of an HTTP handler with the operation's name. The source
    /// says which.
    OtherValue(Box<dyn Error + Send + Sync>),
    /// The store cannot say what the key holds.
    StoreUnavailable,
    /// Too many runs have outlived their callers
    /// ([`max_detached_runs`](crate::Idempotency::max_detached_runs)).
    TooManyRuns,
    /// The transaction of [`run_tx`](super::OperationKey::run_tx) was rolled back for a passing
    /// reason, such as a deadlock or a lost session, and the key is free again.
    #[cfg(feature = "postgres")]
    RolledBack,
    /// The transaction of [`run_tx`](super::OperationKey::run_tx) could not be committed, for a
    /// reason that another try does not mend: a deferred constraint, or work that has ended the
    /// transaction itself.
    #[cfg(feature = "postgres")]
    TransactionFailed,
    /// [`run_tx`](super::OperationKey::run_tx) needs a [`PostgresStore`](crate::PostgresStore), and
    /// the service has another store. Nothing was run.
    #[cfg(feature = "postgres")]
    NoTransactions,
}

impl<E> RunError<E> {
    /// Whether the same call may succeed later: a message is then to be delivered again, else it
    /// belongs to a person.
    ///
    /// Of [`Failed`](Self::Failed) it says that the key is free; whether the work itself is worth
    /// another try, its error knows.
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
            Self::KeyReused => "the idempotency key is already used, for something else",
            Self::InProgress => "another run with the idempotency key has not ended in time",
            Self::ValueNotStored => {
                "the work for the idempotency key is done, but its value could not be stored"
            }
            Self::OutcomeUnknown => {
                "whether the work for the idempotency key took effect is not known"
            }
            Self::OtherValue(_) => "the idempotency key holds another value than was asked for",
            Self::StoreUnavailable => "the idempotency store is unavailable",
            Self::TooManyRuns => "too many runs have outlived their callers",
            #[cfg(feature = "postgres")]
            Self::RolledBack => "the transaction was rolled back, for a passing reason",
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
