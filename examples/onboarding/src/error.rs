//! What can go wrong with a request, and how the caller is told.

use axum::{
    extract::rejection::JsonRejection,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use idempotent_axum::StoreError;
use serde::Serialize;
use utoipa::ToSchema;

/// An error of the API, as a problem document (RFC 9457) with the members that a refused
/// idempotency key's has as well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{}", .0.body_text())]
    InvalidBody(#[from] JsonRejection),
    #[error("Send your token in the header `Authorization: Bearer <token>`")]
    Unauthorized,
    #[error("There is nothing with this id")]
    NotFound,
    #[error("A member with this email exists already")]
    EmailTaken,
    #[error("A request with this key is running{}", .lease_left_seconds
        .map(|seconds| format!("; its lease ends in {seconds} s unless it is renewed"))
        .unwrap_or_default())]
    StillRunning { lease_left_seconds: Option<u64> },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    fn status(&self) -> StatusCode {
        match self {
            Self::InvalidBody(rejection) => rejection.status(),
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::EmailTaken | Self::StillRunning { .. } => StatusCode::CONFLICT,
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::InvalidBody(_) => "invalid_body",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::EmailTaken => "email_taken",
            Self::StillRunning { .. } => "still_running",
            Self::Store(_) => "store_unavailable",
        }
    }
}

/// A problem document.
#[derive(Serialize, ToSchema)]
pub(crate) struct Problem {
    /// The same for every problem with its status.
    title: &'static str,
    /// That of the response.
    status: u16,
    /// What went wrong, for people.
    detail: String,
    /// What went wrong, for programs.
    code: &'static str,
    /// The same text as `detail`.
    message: String,
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if let Self::Store(error) = &self {
            tracing::warn!(error = error as &dyn std::error::Error, "the store was asked in vain");
        }
        let (status, message) = (self.status(), self.to_string());
        let problem = axum::Json(Problem {
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: message.clone(),
            code: self.code(),
            message,
        });
        let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (status, content_type, problem).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}
