//! What is kept of a handler's response, and the replay made of it.

use std::future::poll_fn;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, response::Parts};
use http_body::Body as _;

use crate::{
    body::{self, Read, Reader},
    execute::Handler,
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

/// Runs `handler` and decides what to keep of its response, whose body is read where it is kept.
pub(crate) async fn capture(replay: Replay, max_bytes: usize, handler: Handler) -> Captured {
    match decide(replay, max_bytes, handler.await) {
        Decision::Made(captured) => captured,
        Decision::ReadBody(parts, body) => {
            let mut reader = Reader::new(body, max_bytes);
            captured(parts, poll_fn(|cx| reader.poll_read(cx)).await)
        }
    }
}

/// What becomes of a claim, as far as the head of its response tells.
enum Decision {
    Made(Captured),
    ReadBody(Parts, Body),
}

fn decide(replay: Replay, max_bytes: usize, mut response: Response) -> Decision {
    // Only a replay may carry it, whatever an upstream service answered the handler.
    response.headers_mut().remove(REPLAYED);
    let is_final = match response.extensions_mut().remove::<Outcome>() {
        Some(Outcome::Unknown) => {
            return Decision::Made(Captured::Kept(record::unknown(), response));
        }
        Some(Outcome::Final) => true,
        Some(Outcome::Retryable) => false,
        None => replay.includes(response.status()),
    };
    if !is_final || is_endless(&response) {
        return Decision::Made(Captured::Released(response));
    }
    let (parts, body) = response.into_parts();
    if body.size_hint().lower() > max_bytes as u64 {
        let response = Response::from_parts(parts, body);
        return Decision::Made(Captured::Kept(record::not_stored(), response));
    }
    Decision::ReadBody(parts, body)
}

/// Whether reading the body to its end before answering would break the response.
fn is_endless(response: &Response) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let essence = content_type.and_then(|value| value.split(|byte| *byte == b';').next());
    response.status() == StatusCode::SWITCHING_PROTOCOLS
        || essence
            .is_some_and(|essence| essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
}

/// What to keep of a response of which the body was read.
fn captured(parts: Parts, read: Read) -> Captured {
    let chunks = match read {
        Read::Whole(chunks) => chunks,
        // Too much data; or trailers, without which a replay would be another response.
        Read::Cut(chunks, Ok(frame), rest) => {
            let response = Response::from_parts(parts, body::resumed(chunks, Ok(frame), rest));
            return Captured::Kept(record::not_stored(), response);
        }
        Read::Cut(chunks, Err(error), rest) => {
            let body = body::resumed(chunks, Err(error.into_inner()), rest);
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
