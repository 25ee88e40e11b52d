//! Why a handler with a [`Tx`](super::Tx) cannot run or has failed, as responses.

use std::{
    collections::BTreeSet,
    error::Error,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    extract::MatchedPath,
    response::{IntoResponse, Response},
};
use http::request::Parts;

use crate::{
    http::{idempotency::Idempotency, outcome::Outcome, problem::Problem, scope::Scope},
    store::postgres::is_passing_in_transaction,
};

/// A database error in a handler with a [`Tx`](crate::Tx), as a response.
///
/// If it is transient (two transactions conflicted, `40001` or `40P01`, a server limit was hit, or
/// the session was lost), the response is 503 with `Retry-After`, and everything the handler did is
/// rolled back. Any other error is logged, and the response is 500 `transaction_failed`.
///
/// A handler may return it, or an application's error type may use it for what it does not handle
/// itself:
///
/// ```
/// use axum::response::{IntoResponse, Response};
/// use http::StatusCode;
/// use idempotent_runtime::TxError;
///
/// enum PaymentError {
///     Declined,
///     Database(sqlx::Error),
/// }
///
/// impl IntoResponse for PaymentError {
///     fn into_response(self) -> Response {
///         match self {
///             Self::Declined => StatusCode::PAYMENT_REQUIRED.into_response(),
///             Self::Database(error) => TxError::from(error).into_response(),
///         }
///     }
/// }
///
/// let response = PaymentError::Database(sqlx::Error::WorkerCrashed).into_response();
/// assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
/// assert!(response.headers().contains_key("retry-after"));
/// # assert_eq!(PaymentError::Declined.into_response().status(), 402);
/// ```
#[derive(Debug)]
pub struct TxError(sqlx::Error);

impl TxError {
    /// Whether the same request may succeed if it is retried.
    ///
    /// ```
    /// use idempotent_runtime::TxError;
    ///
    /// assert!(!TxError::from(sqlx::Error::RowNotFound).is_passing());
    /// ```
    #[must_use]
    pub fn is_passing(&self) -> bool {
        is_passing_in_transaction(&self.0)
    }
}

impl From<sqlx::Error> for TxError {
    fn from(error: sqlx::Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for TxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a statement in the request's transaction failed")
    }
}

impl Error for TxError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

impl IntoResponse for TxError {
    fn into_response(self) -> Response {
        let error = &self as &dyn Error;
        if self.is_passing() {
            tracing::debug!(
                target: crate::TARGET,
                error, "a handler's transaction failed for a transient reason"
            );
            return (Outcome::Retryable, Problem::rolled_back()).into_response();
        }
        tracing::error!(target: crate::TARGET, error, "a handler's transaction failed");
        (Outcome::Retryable, Problem::transaction_failed()).into_response()
    }
}

/// Why a handler cannot get a [`Tx`](crate::Tx): the service has no `PostgresStore`, or the handler
/// takes two. A response with status 500.
///
/// ```
/// # use axum::{extract::FromRequestParts as _, response::IntoResponse as _};
/// # use http::Request;
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use idempotent_runtime::{Tx, TxRejection};
///
/// let (mut parts, ()) = Request::new(()).into_parts();
/// // The service has no store with transactions.
/// let rejection: TxRejection = <Tx>::from_request_parts(&mut parts, &()).await.err().unwrap();
/// assert_eq!(rejection.into_response().status(), 500);
/// # });
/// ```
#[derive(Debug)]
pub struct TxRejection(Box<Response>);

impl TxRejection {
    pub(super) fn without_store(parts: &Parts) -> Self {
        Self::new(
            parts,
            "a handler takes a `Tx` but its service has no `PostgresStore`: add an `Idempotency` \
             layer with one after the route, or `install` one",
        )
    }

    pub(super) fn twice(parts: &Parts) -> Self {
        Self::new(
            parts,
            "a handler takes two `Tx` but there is only one transaction: take it once and pass it \
             on, including from your own extractors",
        )
    }

    /// Logs the error once for each operation.
    fn new(parts: &Parts, message: &'static str) -> Self {
        static TOLD: Mutex<BTreeSet<(Arc<str>, &str)>> = Mutex::new(BTreeSet::new());

        let template = parts.extensions.get::<MatchedPath>();
        let name = template.and_then(|it| Scope::Route(&parts.method, it.as_str()).name());
        let name = name.unwrap_or_else(|| "other".into());
        let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert((Arc::clone(&name), message)) {
            tracing::error!(target: crate::TARGET, operation = &*name, "{message}");
        }
        drop(told);
        let settings = Idempotency::for_request(&parts.extensions);
        let refusal = settings.refuse_unasked(None, Some(&*name), Problem::misconfigured());
        Self(Box::new(refusal))
    }
}

impl IntoResponse for TxRejection {
    fn into_response(self) -> Response {
        *self.0
    }
}
