//! [`Outcome`]: the handler's own decision on whether its response may be replayed.

use axum::response::{IntoResponseParts, ResponseParts};

/// Overrides the attribute's `replay` for one response.
///
/// It is a response part, so it comes before the response, including in the error of a `Result`:
///
/// ```
/// use axum::response::{IntoResponse, Response};
/// use http::StatusCode;
/// use idempotent_runtime::Outcome;
///
/// fn declined() -> Response {
///     // A 402 is not stored by default; this one is final.
///     (Outcome::Final, StatusCode::PAYMENT_REQUIRED).into_response()
/// }
/// # assert_eq!(declined().status(), 402);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Store this response, whatever its status.
    Final,
    /// Release the key, so that a retry runs the handler again.
    Retryable,
    /// The effect may or may not have happened: keep the key, and answer duplicates with 409
    /// `outcome_unknown` until the ttl passes.
    Unknown,
}

impl IntoResponseParts for Outcome {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Self::Error> {
        parts.extensions_mut().insert(self);
        Ok(parts)
    }
}
