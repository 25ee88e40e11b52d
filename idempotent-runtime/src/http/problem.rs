//! The errors that this library answers with, as problem documents (RFC 9457).

use std::{borrow::Cow, error::Error, fmt, sync::Arc};

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::engine::ProblemCode;

/// What `type` points to unless [`docs_url`](crate::Idempotency::docs_url) is set.
const DOCUMENTATION: &str = "https://docs.rs/idempotent-axum/latest/idempotent_axum/";

/// Why a request was refused instead of run or replayed.
///
/// As a response it is an `application/problem+json` document (RFC 9457) with the members `type`,
/// `title`, `status`, `detail`, `code` and `message` (the same text as `detail`). It never contains
/// the key. [`error_response`](crate::Idempotency::error_response) turns it into another format.
///
/// ```
/// # use axum::{Router, body::Body, response::IntoResponse, routing::any};
/// # use http::Request;
/// # use idempotent_runtime::__private::{Idempotent, Policy};
/// # let app: Router = Router::new().fallback(any(|last: Idempotent<()>| {
/// #     static POLICY: Policy = Policy { required: true, ..Policy::DEFAULT };
/// #     let known = Idempotent::probe(&last).known();
/// #     Idempotent::run(last, &POLICY, known, IntoResponse::into_response, |_| |(), _| async {})
/// # }));
/// # let (sender, problems) = std::sync::mpsc::channel();
/// # let idempotency = idempotent_runtime::Idempotency::new(idempotent_runtime::MemoryStore::new())
/// #     .error_response(move |problem| sender.send(problem).unwrap());
/// # let mut app = app.layer(idempotency);
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// #     tower_service::Service::call(&mut app, Request::new(Body::empty())).await.unwrap();
/// # });
/// # let problem: idempotent_runtime::Problem = problems.try_recv().unwrap();
/// // Of a request without a key, which the operation requires:
/// assert_eq!(problem.status(), 400);
/// assert_eq!(problem.code().as_str(), "missing_key");
/// assert!(problem.to_string().starts_with("Idempotency-Key is missing: This operation requires"));
/// ```
#[derive(Debug, Clone)]
pub struct Problem {
    code: ProblemCode,
    detail: Cow<'static, str>,
    pub(crate) docs_url: Option<Arc<str>>,
}

impl Problem {
    pub(crate) fn invalid_key(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ProblemCode::InvalidKey, detail)
    }

    pub(crate) fn conflicting_keys() -> Self {
        Self::new(
            ProblemCode::ConflictingKeys,
            "The request carries different idempotency keys in several headers. Send one key",
        )
    }

    pub(crate) fn missing_key(header: &HeaderName) -> Self {
        Self::new(
            ProblemCode::MissingKey,
            format!("This operation requires an idempotency key. Send one in the {header} header"),
        )
    }

    pub(crate) fn request_in_progress() -> Self {
        Self::new(
            ProblemCode::RequestInProgress,
            "The first request with this idempotency key is still being processed. Retry later",
        )
    }

    pub(crate) fn response_not_stored() -> Self {
        Self::new(
            ProblemCode::ResponseNotStored,
            "The request with this idempotency key was processed, but its response could not be stored and is not replayed",
        )
    }

    pub(crate) fn outcome_unknown() -> Self {
        Self::new(
            ProblemCode::OutcomeUnknown,
            "The outcome of the request with this idempotency key is not known. Check its effect before sending a new key",
        )
    }

    pub(crate) fn key_reused() -> Self {
        Self::new(
            ProblemCode::KeyReused,
            "This idempotency key was used with a different request. Use a new key for a new request",
        )
    }

    pub(crate) fn too_many_runs() -> Self {
        Self::new(
            ProblemCode::TooManyRuns,
            "Too many requests whose callers have gone are still being processed. Retry later with the same idempotency key",
        )
    }

    pub(crate) fn store_unavailable() -> Self {
        Self::new(
            ProblemCode::StoreUnavailable,
            "The idempotency store cannot answer now. Retry later with the same idempotency key",
        )
    }

    /// For requests that had no effect.
    #[cfg(feature = "postgres")]
    pub(crate) fn rolled_back() -> Self {
        Self::new(
            ProblemCode::StoreUnavailable,
            "The transaction of this request was rolled back. Retry later with the same idempotency key",
        )
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn transaction_failed() -> Self {
        Self::new(
            ProblemCode::TransactionFailed,
            "The transaction of this request could not be committed",
        )
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn misconfigured() -> Self {
        Self::new(
            ProblemCode::Misconfigured,
            "This operation needs a transaction that the service does not provide",
        )
    }

    /// A problem with `code` and no detail, for what all problems with this code share.
    #[cfg(any(feature = "aide", feature = "utoipa"))]
    pub(super) fn example(code: ProblemCode) -> Self {
        Self::new(code, "")
    }

    fn new(code: ProblemCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), docs_url: None }
    }

    /// The status of the response.
    ///
    /// ```
    /// # use axum::{Router, body::Body, response::IntoResponse, routing::any};
    /// # use http::Request;
    /// # use idempotent_runtime::__private::{Idempotent, Policy};
    /// # let app: Router = Router::new().fallback(any(|last: Idempotent<()>| {
    /// #     static POLICY: Policy = Policy { required: true, ..Policy::DEFAULT };
    /// #     let known = Idempotent::probe(&last).known();
    /// #     Idempotent::run(last, &POLICY, known, IntoResponse::into_response, |_| |(), _| async {})
    /// # }));
    /// # let (sender, problems) = std::sync::mpsc::channel();
    /// # let idempotency = idempotent_runtime::Idempotency::new(idempotent_runtime::MemoryStore::new())
    /// #     .error_response(move |problem| sender.send(problem).unwrap());
    /// # let mut app = app.layer(idempotency);
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// #     tower_service::Service::call(&mut app, Request::new(Body::empty())).await.unwrap();
    /// # });
    /// # let problem: idempotent_runtime::Problem = problems.try_recv().unwrap();
    /// assert_eq!(problem.status(), 400);
    /// ```
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.code {
            ProblemCode::InvalidKey | ProblemCode::ConflictingKeys | ProblemCode::MissingKey => {
                StatusCode::BAD_REQUEST
            }
            ProblemCode::RequestInProgress
            | ProblemCode::ResponseNotStored
            | ProblemCode::OutcomeUnknown => StatusCode::CONFLICT,
            ProblemCode::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            ProblemCode::TransactionFailed | ProblemCode::Misconfigured => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            ProblemCode::TooManyRuns | ProblemCode::StoreUnavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// A stable, machine-readable name.
    ///
    /// ```
    /// # use axum::{Router, body::Body, response::IntoResponse, routing::any};
    /// # use http::Request;
    /// # use idempotent_runtime::__private::{Idempotent, Policy};
    /// # let app: Router = Router::new().fallback(any(|last: Idempotent<()>| {
    /// #     static POLICY: Policy = Policy { required: true, ..Policy::DEFAULT };
    /// #     let known = Idempotent::probe(&last).known();
    /// #     Idempotent::run(last, &POLICY, known, IntoResponse::into_response, |_| |(), _| async {})
    /// # }));
    /// # let (sender, problems) = std::sync::mpsc::channel();
    /// # let idempotency = idempotent_runtime::Idempotency::new(idempotent_runtime::MemoryStore::new())
    /// #     .error_response(move |problem| sender.send(problem).unwrap());
    /// # let mut app = app.layer(idempotency);
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// #     tower_service::Service::call(&mut app, Request::new(Body::empty())).await.unwrap();
    /// # });
    /// # let problem: idempotent_runtime::Problem = problems.try_recv().unwrap();
    /// assert_eq!(problem.code(), idempotent_runtime::ProblemCode::MissingKey);
    /// ```
    #[must_use]
    pub fn code(&self) -> ProblemCode {
        self.code
    }

    /// A short summary, the same for every occurrence of a code.
    ///
    /// ```
    /// # use axum::{Router, body::Body, response::IntoResponse, routing::any};
    /// # use http::Request;
    /// # use idempotent_runtime::__private::{Idempotent, Policy};
    /// # let app: Router = Router::new().fallback(any(|last: Idempotent<()>| {
    /// #     static POLICY: Policy = Policy { required: true, ..Policy::DEFAULT };
    /// #     let known = Idempotent::probe(&last).known();
    /// #     Idempotent::run(last, &POLICY, known, IntoResponse::into_response, |_| |(), _| async {})
    /// # }));
    /// # let (sender, problems) = std::sync::mpsc::channel();
    /// # let idempotency = idempotent_runtime::Idempotency::new(idempotent_runtime::MemoryStore::new())
    /// #     .error_response(move |problem| sender.send(problem).unwrap());
    /// # let mut app = app.layer(idempotency);
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// #     tower_service::Service::call(&mut app, Request::new(Body::empty())).await.unwrap();
    /// # });
    /// # let problem: idempotent_runtime::Problem = problems.try_recv().unwrap();
    /// assert_eq!(problem.title(), "Idempotency-Key is missing");
    /// ```
    #[must_use]
    pub fn title(&self) -> &'static str {
        match self.code {
            ProblemCode::InvalidKey => "Idempotency-Key is invalid",
            ProblemCode::ConflictingKeys => "Idempotency-Key is ambiguous",
            ProblemCode::MissingKey => "Idempotency-Key is missing",
            ProblemCode::RequestInProgress => "A request is outstanding for this Idempotency-Key",
            ProblemCode::ResponseNotStored | ProblemCode::OutcomeUnknown => {
                "The response for this Idempotency-Key is not available"
            }
            ProblemCode::KeyReused => "Idempotency-Key is already used",
            ProblemCode::TransactionFailed => "The transaction failed",
            ProblemCode::Misconfigured => "Idempotency is misconfigured",
            ProblemCode::TooManyRuns => "Too many requests are still running",
            ProblemCode::StoreUnavailable => "Idempotency store is unavailable",
        }
    }

    /// What went wrong with this request, and what to do.
    ///
    /// ```
    /// # use axum::{Router, body::Body, response::IntoResponse, routing::any};
    /// # use http::Request;
    /// # use idempotent_runtime::__private::{Idempotent, Policy};
    /// # let app: Router = Router::new().fallback(any(|last: Idempotent<()>| {
    /// #     static POLICY: Policy = Policy { required: true, ..Policy::DEFAULT };
    /// #     let known = Idempotent::probe(&last).known();
    /// #     Idempotent::run(last, &POLICY, known, IntoResponse::into_response, |_| |(), _| async {})
    /// # }));
    /// # let (sender, problems) = std::sync::mpsc::channel();
    /// # let idempotency = idempotent_runtime::Idempotency::new(idempotent_runtime::MemoryStore::new())
    /// #     .error_response(move |problem| sender.send(problem).unwrap());
    /// # let mut app = app.layer(idempotency);
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// #     tower_service::Service::call(&mut app, Request::new(Body::empty())).await.unwrap();
    /// # });
    /// # let problem: idempotent_runtime::Problem = problems.try_recv().unwrap();
    /// assert!(problem.detail().ends_with("Send one in the idempotency-key header"));
    /// ```
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Seconds after which a retry makes sense (RFC 9110, section 10.2.3), if it does. After an
    /// outage the number is random, so that clients do not all come back at once.
    pub(crate) fn retry_after(&self) -> Option<HeaderValue> {
        match self.code {
            ProblemCode::RequestInProgress => Some(HeaderValue::from_static("1")),
            ProblemCode::StoreUnavailable | ProblemCode::TooManyRuns => {
                let [random, ..] = uuid::Uuid::new_v4().into_bytes();
                Some(HeaderValue::from(u16::from(random % 3) + 1))
            }
            _ => None,
        }
    }
}

/// Title and detail.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.title(), self.detail)
    }
}

impl Error for Problem {}

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
            r#type: format!("{}#{}", docs_url.unwrap_or(DOCUMENTATION), self.code),
            title: self.title(),
            status: self.status().as_u16(),
            detail: &self.detail,
            code: self.code.as_str(),
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
