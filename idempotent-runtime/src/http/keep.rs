//! [`Keeping`]: what is kept of a handler's response.

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, header, response::Parts};
use http_body::Body as _;

use super::{
    body::{self, Read, Reader},
    idempotency::Settings,
    outcome::Outcome,
    policy::Replay,
    stored::{self, REPLAYED},
};
use crate::engine::{Keep, record};

/// Decides what to keep, and captures it.
pub(super) struct Keeping {
    replay: Replay,
    pub(super) settings: Arc<Settings>,
    /// Whether the request was a `CONNECT`: a 2xx to it is a tunnel.
    is_connect: bool,
}

/// What happens to a response, as far as its head tells.
enum Decision {
    /// Nothing of it is kept.
    Release,
    /// It should be kept but cannot be: an upgrade or a stream.
    Pass,
    /// Its record is known without the body.
    Note(Bytes),
    Capture,
}

impl Keeping {
    pub(super) fn new(replay: Replay, settings: Arc<Settings>, is_connect: bool) -> Self {
        Self { replay, settings, is_connect }
    }

    /// What is kept of `response`, and the response that is sent.
    ///
    /// Not an `async fn`, whose future would have room for both the response and its parts.
    pub(super) fn keep(
        &self,
        mut response: Response,
    ) -> impl Future<Output = (Keep, Response)> + Send {
        // Only a replay may carry it, whatever an upstream service sent to the handler.
        if response.headers().keys().any(|name| *name == REPLAYED) {
            response.headers_mut().remove(REPLAYED);
        }
        let outcome = response.extensions_mut().remove::<Outcome>();
        let decision = self.decide(&response, outcome);
        let (parts, body) = response.into_parts();
        let mut reader = Reader::new(body, self.settings.max_response_bytes);
        async move {
            let keep = match decision {
                Decision::Release => Keep::Nothing,
                Decision::Pass => Keep::Unstorable,
                Decision::Note(note) => Keep::Record(note),
                Decision::Capture => {
                    // A body in memory is available at once: it needs no timer, and no room for
                    // one.
                    let read = match poll_fn(|cx| Poll::Ready(reader.poll_read(cx))).await {
                        Poll::Ready(read) => read,
                        Poll::Pending => {
                            let limit = self.settings.max_capture_time;
                            Box::pin(read_within(limit, &mut reader)).await
                        }
                    };
                    return self.record(parts, read);
                }
            };
            (keep, Response::from_parts(parts, reader.into_body()))
        }
    }

    /// Whether to commit what a handler did that answers like this, when there is no key to keep it
    /// under.
    #[cfg(feature = "postgres")]
    pub(super) fn is_effective(&self, response: &mut Response) -> bool {
        let outcome = response.extensions_mut().remove::<Outcome>();
        !matches!(self.decide(response, outcome), Decision::Release)
    }

    fn decide(&self, response: &Response, outcome: Option<Outcome>) -> Decision {
        let is_upgrade = self.is_upgrade(response.status());
        let is_passed = match outcome {
            Some(Outcome::Unknown) => return Decision::Note(record::unknown()),
            Some(Outcome::Retryable) => return Decision::Release,
            Some(Outcome::Final) => is_upgrade,
            None if !is_upgrade && !self.replay.includes(response.status()) => {
                return Decision::Release;
            }
            None => is_upgrade || is_stream(response.headers()),
        };
        if is_passed {
            Decision::Pass
        } else if response.body().size_hint().lower() > self.settings.max_response_bytes as u64 {
            Decision::Note(record::not_stored())
        } else {
            Decision::Capture
        }
    }

    /// Whether the connection turns into something else (RFC 9110, sections 7.8 and 9.3.6; RFC
    /// 8441).
    fn is_upgrade(&self, status: StatusCode) -> bool {
        status == StatusCode::SWITCHING_PROTOCOLS || (self.is_connect && status.is_success())
    }

    /// What to keep of a response whose body has been read.
    fn record(&self, parts: Parts, read: Read) -> (Keep, Response) {
        let chunks = match read {
            Read::Whole(chunks) => chunks,
            // Too much data, too slow, or followed by trailers, without which a replay would be a
            // different response.
            Read::Cut(chunks, last, rest) => {
                let body = body::resumed(chunks, last.map(Ok), rest);
                return (Keep::Record(record::not_stored()), Response::from_parts(parts, body));
            }
            Read::Failed(chunks, error, rest) => {
                let body = body::resumed(chunks, Some(Err(error.into_inner())), rest);
                return (Keep::Nothing, Response::from_parts(parts, body));
            }
        };
        let unstored = Unstored::new(&parts.headers);
        // With an empty body, `Content-Length` is the length of the body that a HEAD or a 304
        // leaves out; recomputed it would be 0. Everywhere else it follows from the body.
        let body_left_out = chunks.len() == 0;
        let is_stored = |name: &HeaderName| {
            !unstored.includes(name) || (body_left_out && name == header::CONTENT_LENGTH)
        };
        let (draft, body_at) = stored::encode(parts.status, &parts.headers, is_stored, &chunks);
        let record = self.settings.engine.finish(draft);
        let body = record.slice(body_at..);
        (Keep::Record(record), Response::from_parts(parts, Body::from(body)))
    }
}

/// What `reader` reads up to the end of the body, or within `limit`.
async fn read_within(limit: Duration, reader: &mut Reader) -> Read {
    match tokio::time::timeout(limit, poll_fn(|cx| reader.poll_read(cx))).await {
        Ok(read) => read,
        Err(_) => reader.cut(None),
    }
}

/// Whether the body may be endless and is useful only as it arrives.
fn is_stream(headers: &HeaderMap) -> bool {
    const STREAMS: [&str; 10] = [
        "text/event-stream",
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "application/x-jsonlines",
        "application/jsonlines",
        "application/x-json-stream",
        "application/stream+json",
        "application/json-seq",
        "multipart/x-mixed-replace",
    ];
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else { return false };
    let essence = super::fingerprint::essence(content_type.as_bytes());
    STREAMS.iter().any(|stream| *essence == *stream.as_bytes())
        || essence.starts_with(b"application/grpc")
}

/// Moves to `response`, which is sent in place of another one with the headers `own`, those that
/// belong to this request: they are never stored.
pub(super) fn take_over(own: &HeaderMap, response: &mut Response) {
    let of_request = own.iter().filter(|(name, _)| {
        matches!(
            name.as_str(),
            "date" | "server-timing" | "set-cookie" | "traceparent" | "tracestate" | "x-request-id"
        )
    });
    for (name, value) in of_request {
        response.headers_mut().append(name, value.clone());
    }
}

/// The headers of a response that belong to one connection, one moment or one request.
struct Unstored {
    /// Named by the `Connection` header (RFC 9110, section 7.6.1).
    connection: Vec<HeaderName>,
}

impl Unstored {
    fn new(headers: &HeaderMap) -> Self {
        let connection = headers.get_all(header::CONNECTION).iter();
        let names = connection.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
        let names = names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok());
        Self { connection: names.collect() }
    }

    fn includes(&self, name: &HeaderName) -> bool {
        match name.as_str() {
            "age"
            | "connection"
            | "content-length"
            | "date"
            | "idempotent-replayed"
            | "keep-alive"
            | "server-timing"
            | "set-cookie"
            | "te"
            | "traceparent"
            | "tracestate"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "x-request-id" => true,
            name if name.starts_with("proxy-") => true,
            _ => self.connection.contains(name),
        }
    }
}
