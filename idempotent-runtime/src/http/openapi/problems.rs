//! [`Problems`]: the errors that the library itself answers with.

/// The errors of an `#[idempotent]` handler: 400, 409, 422, 500 and 503 as
/// `application/problem+json`, with their [codes](crate::ProblemCode).
///
/// Under `utoipa` it stands in `responses(…)`, in front of the handler's own, which then take its place
/// for their status. An attribute above `#[utoipa::path]` puts it there by itself.
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
