//! [`StoreError`]: why a store could not do what it was asked to.

use std::{borrow::Cow, error::Error, fmt};

type BoxError = Box<dyn Error + Send + Sync>;

/// Why a store could not do what it was asked to.
///
/// The cause is its [`source`](std::error::Error::source).
///
/// ```
/// use std::{error::Error, io};
///
/// use idempotent_runtime::StoreError;
///
/// let error = StoreError::new(io::Error::from(io::ErrorKind::BrokenPipe));
/// assert_eq!(error.to_string(), "the idempotency store failed");
/// assert_eq!(error.source().unwrap().to_string(), "broken pipe");
/// ```
#[derive(Debug)]
pub struct StoreError {
    kind: Kind,
    source: Option<BoxError>,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Failed(Cow<'static, str>),
    NotSent,
    TimedOut,
    TooLarge,
    #[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
    ForeignEntry,
    #[cfg(not(feature = "memory"))]
    Unconfigured,
}

impl StoreError {
    /// The store failed because of `source`; whether the call took effect is unknown.
    ///
    /// ```
    /// # use std::error::Error;
    /// # use idempotent_runtime::StoreError;
    /// let error = StoreError::new("the connection broke");
    /// assert_eq!(error.to_string(), "the idempotency store failed");
    /// assert_eq!(error.source().unwrap().to_string(), "the connection broke");
    /// ```
    pub fn new(source: impl Into<BoxError>) -> Self {
        Self::described("the idempotency store failed").because(source)
    }

    /// The call reached no server because of `source`, so it certainly had no effect.
    ///
    /// Examples are a refused connection and an exhausted pool; a connection that broke during the
    /// call is not one.
    ///
    /// ```
    /// # use idempotent_runtime::StoreError;
    /// let error = StoreError::not_sent("no connection is free");
    /// assert_eq!(error.to_string(), "the idempotency store could not be reached");
    /// ```
    pub fn not_sent(source: impl Into<BoxError>) -> Self {
        Self { kind: Kind::NotSent, source: Some(source.into()) }
    }

    /// The record can never fit into this store.
    ///
    /// ```
    /// # use idempotent_runtime::StoreError;
    /// assert!(StoreError::too_large().to_string().starts_with("the record is larger"));
    /// ```
    #[must_use]
    pub fn too_large() -> Self {
        Self { kind: Kind::TooLarge, source: None }
    }

    /// The store failed in the way that `message` says, without a source.
    pub(crate) fn described(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: Kind::Failed(message.into()), source: None }
    }

    /// The same error, caused by `source`.
    pub(crate) fn because(self, source: impl Into<BoxError>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// The key holds an entry that this release cannot read. Another release may be running it, so
    /// it counts neither as absent nor as a store failure.
    #[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
    pub(crate) fn foreign_entry() -> Self {
        Self { kind: Kind::ForeignEntry, source: None }
    }

    /// The store did not answer in time.
    pub(crate) fn timed_out() -> Self {
        Self { kind: Kind::TimedOut, source: None }
    }

    /// No store is configured.
    #[cfg(not(feature = "memory"))]
    pub(crate) fn unconfigured() -> Self {
        Self { kind: Kind::Unconfigured, source: None }
    }

    /// Whether the log already contains it: a bug in the program is logged once, not for each
    /// request.
    pub(crate) fn is_logged_once(&self) -> bool {
        match self.kind {
            #[cfg(not(feature = "memory"))]
            Kind::Unconfigured => true,
            _ => false,
        }
    }

    /// Whether the key holds an entry that this release cannot read: the request must not run.
    pub(crate) fn is_foreign_entry(&self) -> bool {
        match self.kind {
            #[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
            Kind::ForeignEntry => true,
            _ => false,
        }
    }

    /// Whether the store is unreachable, as far as this call shows.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self.kind, Kind::Failed(_) | Kind::NotSent | Kind::TimedOut)
    }

    pub(crate) fn is_not_sent(&self) -> bool {
        self.kind == Kind::NotSent
    }

    /// This error of [`Store::forget`](super::Store::forget), expressed as what it means there: a
    /// call that may have arrived is not repeated, because it has no token.
    pub(crate) fn of_forget(self) -> Self {
        if self.is_outage() && !self.is_not_sent() {
            const UNKNOWN: &str = "it is unknown whether the key was freed: look at its state \
                before forgetting it again, which could free what came after";
            return Self::described(UNKNOWN).because(self);
        }
        self
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn is_timed_out(&self) -> bool {
        self.kind == Kind::TimedOut
    }

    pub(crate) fn is_too_large(&self) -> bool {
        self.kind == Kind::TooLarge
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Failed(message) => message,
            Kind::NotSent => "the idempotency store could not be reached",
            Kind::TimedOut => "the idempotency store did not answer within `store_timeout`",
            Kind::TooLarge => "the record is larger than the idempotency store allows",
            #[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
            Kind::ForeignEntry => {
                "the key holds an entry that this release cannot read: it was written by another \
                 release or another program"
            }
            #[cfg(not(feature = "memory"))]
            Kind::Unconfigured => {
                "`#[idempotent]` has no store: put an `Idempotency` layer around the router, \
                 `install` one, or enable the feature `memory` of `idempotent-axum`"
            }
        })
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
