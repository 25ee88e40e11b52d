//! [`Problems`]: the errors that the library itself answers with.

/// The errors of an `#[idempotent]` handler: 400, 409, 422, 500 and 503 as
/// `application/problem+json`, with their [codes](crate::ProblemCode).
///
/// With `utoipa`, put it into `responses(…)` before the handler's own responses, which then win for
/// their status. An attribute above `#[utoipa::path]` does so automatically.
///
/// ```
/// # #[cfg(feature = "utoipa")] {
/// use utoipa::IntoResponses as _;
///
/// let responses = idempotent_runtime::openapi::Problems::responses();
/// assert!(responses.contains_key("422"));
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Problems;
