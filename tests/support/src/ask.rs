//! [`post`]: requests to a router in this process, and their [`Answer`]s.

use std::convert::Infallible;

use axum::{
    Router,
    body::Body,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header::AsHeaderName,
        request,
    },
    response::Response,
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

use crate::PATIENCE;

/// A request to be sent to a router.
#[derive(Debug)]
pub struct Ask {
    request: request::Builder,
    body: Body,
}

/// A `POST` request without a body.
#[must_use]
pub fn post(uri: &str) -> Ask {
    ask(Method::POST, uri)
}

/// A request without a body.
#[must_use]
pub fn ask(method: Method, uri: &str) -> Ask {
    Ask { request: Request::builder().method(method).uri(uri), body: Body::empty() }
}

impl Ask {
    /// Adds an `Idempotency-Key` line.
    #[must_use]
    pub fn key(self, key: impl AsRef<[u8]>) -> Self {
        self.header("idempotency-key", key)
    }

    /// Adds a header line; its value may contain bytes that are not text.
    ///
    /// # Panics
    ///
    /// Panics if it is not a valid header line.
    #[must_use]
    pub fn header(self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        let value = HeaderValue::from_bytes(value.as_ref()).expect("a header value");
        let Self { request, body } = self;
        Self { request: request.header(HeaderName::from_static(name), value), body }
    }

    /// Replaces the body.
    #[must_use]
    pub fn body(self, body: impl Into<Body>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Sets the body to this JSON, and the content type.
    #[must_use]
    pub fn json(self, body: &str) -> Self {
        self.header("content-type", "application/json").body(body.to_owned())
    }

    /// Sends the request, and returns the response before its body is read.
    ///
    /// # Panics
    ///
    /// Panics if the URI is invalid, or there is no response.
    pub async fn begin(self, app: &Router) -> Response {
        let request = self.request.body(self.body).expect("a valid request");
        let response = tokio::time::timeout(PATIENCE, app.clone().oneshot(request)).await;
        let response: Result<Response, Infallible> = response.expect("an answer begins");
        response.unwrap_or_else(|never| match never {})
    }

    /// Sends the request and reads the response to its end.
    ///
    /// # Panics
    ///
    /// Panics if the response's body fails, or does not end.
    pub async fn send(self, app: &Router) -> Answer {
        let (parts, body) = self.begin(app).await.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect()).await;
        let body = body.expect("the body ends").expect("the body does not fail").to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// Sends the request in its own task, which begins at the next await.
    pub fn spawn(self, app: &Router) -> JoinHandle<Answer> {
        let app = app.clone();
        tokio::spawn(async move { self.send(&app).await })
    }
}

/// A complete response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    ///
    /// # Panics
    ///
    /// Panics if it is not text.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// Panics if it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// Parses a response; `None` if the bytes are not one. A chunked body is left as it is.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let mut lines = std::str::from_utf8(&bytes[..end]).ok()?.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':')?;
            headers.append(name.parse::<HeaderName>().ok()?, value.trim().parse().ok()?);
        }
        Some(Self { status, headers, body: Bytes::copy_from_slice(&bytes[end + 4..]) })
    }

    /// The value of the only line of this header; `None` if there is no such line.
    ///
    /// # Panics
    ///
    /// Panics if there are several lines, or bytes that are not text.
    pub fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        let mut lines = self.headers.get_all(name).iter();
        let value = lines.next()?.to_str().expect("a header value in ASCII");
        assert_eq!(lines.next(), None, "one line");
        Some(value)
    }

    /// Whether the response is marked as a replay.
    #[must_use]
    pub fn is_replay(&self) -> bool {
        self.header("idempotent-replayed").is_some_and(|value| value == "true")
    }

    /// Status and `code` of a problem document.
    ///
    /// # Panics
    ///
    /// Panics if the body is not a problem document.
    #[must_use]
    pub fn problem(&self) -> (u16, String) {
        let document = self.json();
        let code = document["code"].as_str().expect("a problem has a code");
        (self.status.as_u16(), code.to_owned())
    }
}
