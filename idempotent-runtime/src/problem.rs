//! The errors this library answers with, as problem documents (RFC 9457).

use std::{borrow::Cow, sync::Arc};

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

/// Where `type` points unless [`docs_url`](crate::Idempotency::docs_url) is set.
const DOCUMENTATION: &str = "https://docs.rs/idempotent-axum/latest/idempotent_axum/";

/// Why a request was refused instead of run or replayed.
///
/// As a response it is an `application/problem+json` document (RFC 9457) with the members `type`,
/// `title`, `status`, `detail`, `code` and `message` (the same text as `detail`). It never holds
/// the key. [`error_response`](crate::Idempotency::error_response) turns it into another format.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    pub(crate) docs_url: Option<Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    InvalidKey,
    ConflictingKeys,
    MissingKey,
    RequestInProgress,
    ResponseNotStored,
    OutcomeUnknown,
    KeyReused,
    StoreUnavailable,
}

impl Problem {
    pub(crate) fn invalid_key(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidKey, detail)
    }

    pub(crate) fn conflicting_keys() -> Self {
        Self::new(
            Code::ConflictingKeys,
            "The request carries different idempotency keys in several headers. Send one key",
        )
    }

    pub(crate) fn missing_key(header: &HeaderName) -> Self {
        Self::new(
            Code::MissingKey,
            format!("This operation requires an idempotency key. Send one in the {header} header"),
        )
    }

    pub(crate) fn request_in_progress() -> Self {
        Self::new(
            Code::RequestInProgress,
            "The first request with this idempotency key is still being processed. Retry later",
        )
    }

    pub(crate) fn response_not_stored() -> Self {
        Self::new(
            Code::ResponseNotStored,
            "The request with this idempotency key was processed, but its response could not be stored and is not replayed",
        )
    }

    pub(crate) fn outcome_unknown() -> Self {
        Self::new(
            Code::OutcomeUnknown,
            "The outcome of the request with this idempotency key is not known. Check its effect before sending a new key",
        )
    }

    pub(crate) fn key_reused() -> Self {
        Self::new(
            Code::KeyReused,
            "This idempotency key was used with a different request. Use a new key for a new request",
        )
    }

    pub(crate) fn store_unavailable() -> Self {
        Self::new(
            Code::StoreUnavailable,
            "The idempotency store cannot answer now. Retry later with the same idempotency key",
        )
    }

    fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), docs_url: None }
    }

    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.code {
            Code::InvalidKey | Code::ConflictingKeys | Code::MissingKey => StatusCode::BAD_REQUEST,
            Code::RequestInProgress | Code::ResponseNotStored | Code::OutcomeUnknown => {
                StatusCode::CONFLICT
            }
            Code::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Code::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// A stable name for programs: `invalid_key`, `conflicting_keys`, `missing_key`,
    /// `request_in_progress`, `response_not_stored`, `outcome_unknown`, `key_reused` or
    /// `store_unavailable`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self.code {
            Code::InvalidKey => "invalid_key",
            Code::ConflictingKeys => "conflicting_keys",
            Code::MissingKey => "missing_key",
            Code::RequestInProgress => "request_in_progress",
            Code::ResponseNotStored => "response_not_stored",
            Code::OutcomeUnknown => "outcome_unknown",
            Code::KeyReused => "key_reused",
            Code::StoreUnavailable => "store_unavailable",
        }
    }

    /// A short summary, the same for every occurrence of a code.
    #[must_use]
    pub fn title(&self) -> &'static str {
        match self.code {
            Code::InvalidKey => "Idempotency-Key is invalid",
            Code::ConflictingKeys => "Idempotency-Key is ambiguous",
            Code::MissingKey => "Idempotency-Key is missing",
            Code::RequestInProgress => "A request is outstanding for this Idempotency-Key",
            Code::ResponseNotStored | Code::OutcomeUnknown => {
                "The response for this Idempotency-Key is not available"
            }
            Code::KeyReused => "Idempotency-Key is already used",
            Code::StoreUnavailable => "Idempotency store is unavailable",
        }
    }

    /// What went wrong with this request, and what to do.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Seconds after which a retry makes sense (RFC 9110, section 10.2.3), where it does.
    pub(crate) fn retry_after(&self) -> Option<HeaderValue> {
        matches!(self.code, Code::RequestInProgress | Code::StoreUnavailable)
            .then(|| HeaderValue::from_static("1"))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Document<'a> {
            r#type: String,
            title: &'a str,
            status: u16,
            detail: &'a str,
            code: &'a str,
            message: &'a str,
        }

        let docs_url = self.docs_url.as_deref();
        let document = Document {
            r#type: format!("{}#{}", docs_url.unwrap_or(DOCUMENTATION), self.code()),
            title: self.title(),
            status: self.status().as_u16(),
            detail: &self.detail,
            code: self.code(),
            message: &self.detail,
        };
        let body =
            serde_json::to_vec(&document).expect("a struct of strings and a number serializes");
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static("en"));
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, seconds);
        }
        if let Some(url) = docs_url {
            let link = format!("<{url}>; rel=\"describedby\"");
            // `docs_url` was checked when it was set.
            headers.extend(HeaderValue::try_from(link).ok().map(|link| (header::LINK, link)));
        }
        response
    }
}
