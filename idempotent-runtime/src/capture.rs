//! What is kept of a handler's response, and the replay made of it.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body::Body as _;

use crate::{
    body::{self, Read},
    outcome::Outcome,
    policy::Replay,
    record,
};

/// Marks a replay.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What becomes of a claim once its handler has answered.
pub(crate) enum Captured {
    /// Nothing is stored: the key is released.
    Released(Response),
    /// The record is stored, then the response is sent.
    Kept(Bytes, Response),
}

/// Decides what to keep of `response`, and reads its body where that is to be kept.
pub(crate) async fn capture(replay: Replay, max_bytes: usize, mut response: Response) -> Captured {
    // Only a replay may carry it, whatever an upstream service answered the handler.
    response.headers_mut().remove(REPLAYED);
    match response.extensions_mut().remove::<Outcome>() {
        Some(Outcome::Unknown) => return Captured::Kept(record::unknown(), response),
        Some(Outcome::Final) => {}
        None if replay.includes(response.status()) => {}
        Some(Outcome::Retryable) | None => return Captured::Released(response),
    }
    if is_endless(&response) {
        return Captured::Released(response);
    }
    capture_body(max_bytes, response).await
}

/// Whether reading the body to its end before answering would break the response.
fn is_endless(response: &Response) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let essence = content_type.and_then(|value| value.split(|byte| *byte == b';').next());
    response.status() == StatusCode::SWITCHING_PROTOCOLS
        || essence
            .is_some_and(|essence| essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
}

async fn capture_body(max_bytes: usize, response: Response) -> Captured {
    let (parts, mut body) = response.into_parts();
    if body.size_hint().lower() > max_bytes as u64 {
        return Captured::Kept(record::not_stored(), Response::from_parts(parts, body));
    }
    let chunks = match body::read(&mut body, max_bytes).await {
        Read::Whole(chunks) => chunks,
        // Too much data; or trailers, without which a replay would be another response.
        Read::Cut(chunks, Ok(frame)) => {
            let response = Response::from_parts(parts, body::resumed(chunks, Ok(frame), body));
            return Captured::Kept(record::not_stored(), response);
        }
        Read::Cut(chunks, Err(error)) => {
            let body = body::resumed(chunks, Err(error.into_inner()), body);
            return Captured::Released(Response::from_parts(parts, body));
        }
    };
    let unstored = Unstored::of(&parts.headers);
    // Beside no body it says how long the one is that a HEAD or a 304 leaves out; computed afresh
    // it would be 0. Everywhere else it follows from the body.
    let body_left_out = chunks.len() == 0;
    let is_stored = |name: &HeaderName| {
        !unstored.includes(name) || (body_left_out && name == header::CONTENT_LENGTH)
    };
    let (record, body) = record::response(parts.status, &parts.headers, is_stored, &chunks);
    Captured::Kept(record, Response::from_parts(parts, Body::from(body)))
}

/// The replay of a stored response.
pub(crate) fn replayed(mut response: Response) -> Response {
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// The headers of a response that belong to one connection, one moment or one request.
struct Unstored {
    /// Named by the `Connection` header (RFC 9110, section 7.6.1).
    connection: Vec<HeaderName>,
}

impl Unstored {
    const NAMES: [&str; 16] = [
        "age",
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "server-timing",
        "set-cookie",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-request-id",
        "proxy-connection",
        "idempotent-replayed",
    ];

    fn of(headers: &HeaderMap) -> Self {
        let connection = headers.get_all(header::CONNECTION).iter();
        let names = connection.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
        let names = names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok());
        Self { connection: names.collect() }
    }

    fn includes(&self, name: &HeaderName) -> bool {
        Self::NAMES.contains(&name.as_str())
            || name.as_str().starts_with("proxy-")
            || self.connection.contains(name)
    }
}
