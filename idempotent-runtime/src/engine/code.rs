//! [`ProblemCode`]: why a request was refused, in one word.

use std::fmt;

/// A stable, machine-readable name for what went wrong.
///
/// ```
/// use idempotent_runtime::ProblemCode;
///
/// assert_eq!(ProblemCode::KeyReused.as_str(), "key_reused");
/// assert!(ProblemCode::ALL.contains(&ProblemCode::KeyReused));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemCode {
    /// The key is invalid (400).
    InvalidKey,
    /// Several headers hold different keys (400).
    ConflictingKeys,
    /// The operation requires a key, but none was sent (400).
    MissingKey,
    /// The first request with the key is still running (409).
    RequestInProgress,
    /// The first request is done, but its response was not stored (409).
    ResponseNotStored,
    /// It is unknown whether the first request took effect (409).
    OutcomeUnknown,
    /// The key was used for a different request (422).
    KeyReused,
    /// Too many handlers have outlived their callers (503).
    TooManyRuns,
    /// The handler's transaction could not be committed (500).
    TransactionFailed,
    /// The handler takes a transaction that the service cannot provide (500).
    Misconfigured,
    /// The store could not be asked, or the handler's transaction was rolled back (503).
    StoreUnavailable,
}

impl ProblemCode {
    /// Every code.
    ///
    /// ```
    /// # use idempotent_runtime::ProblemCode;
    /// let names: Vec<&str> = ProblemCode::ALL.iter().map(|code| code.as_str()).collect();
    /// assert!(names.contains(&"request_in_progress"));
    /// ```
    pub const ALL: &[Self] = &[
        Self::InvalidKey,
        Self::ConflictingKeys,
        Self::MissingKey,
        Self::RequestInProgress,
        Self::ResponseNotStored,
        Self::OutcomeUnknown,
        Self::KeyReused,
        Self::TransactionFailed,
        Self::Misconfigured,
        Self::TooManyRuns,
        Self::StoreUnavailable,
    ];

    /// The code as it appears in a problem document, such as `key_reused`.
    ///
    /// ```
    /// # use idempotent_runtime::ProblemCode;
    /// assert_eq!(ProblemCode::StoreUnavailable.as_str(), "store_unavailable");
    /// ```
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidKey => "invalid_key",
            Self::ConflictingKeys => "conflicting_keys",
            Self::MissingKey => "missing_key",
            Self::RequestInProgress => "request_in_progress",
            Self::ResponseNotStored => "response_not_stored",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::KeyReused => "key_reused",
            Self::TransactionFailed => "transaction_failed",
            Self::Misconfigured => "misconfigured",
            Self::TooManyRuns => "too_many_runs",
            Self::StoreUnavailable => "store_unavailable",
        }
    }
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
