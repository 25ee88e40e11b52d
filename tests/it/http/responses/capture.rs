//! What is captured of a response: all of it up to `max_response_bytes`, or nothing, in which case
//! it passes through at once.

use std::io;

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use http_body::Frame;
use http_body_util::BodyExt as _;
use idempotent_axum::Outcome;
use idempotent_test_support::{Server, frames, fresh_key, post};

use super::{MAX_BYTES, app, exchange};

/// Reads from a body until `length` bytes have come.
pub(super) async fn read(body: &mut Body, length: usize) -> Vec<u8> {
    let mut read = Vec::new();
    while read.len() < length {
        let frame = body.frame().await.expect("the body goes on").expect("no error");
        read.extend_from_slice(&frame.into_data().expect("data"));
    }
    read
}

#[tokio::test]
async fn a_body_that_fails_midway_is_not_stored_and_its_caller_sees_the_error() {
    let (sender, body) = frames();
    sender.data("part");
    sender.send(Err(io::Error::other("lost the upstream")));
    let (app, _) = app([Response::new(body), "whole".into_response()]);
    let key = fresh_key();
    let mut failing = post("/").key(&key).begin(&app).await.into_body();
    assert_eq!(read(&mut failing, 4).await, b"part");
    let error = failing.frame().await.expect("the error comes").expect_err("an error");
    assert_eq!(error.to_string(), "lost the upstream");
    // Released: the retry runs again, and is stored.
    let retry = post("/").key(&key).send(&app).await;
    assert_eq!((retry.text(), retry.is_replay()), ("whole", false));
    assert!(post("/").key(&key).send(&app).await.is_replay());
}

#[tokio::test]
async fn a_body_that_fails_midway_is_cut_off_on_the_wire() {
    let (sender, body) = frames();
    sender.data("part");
    sender.send(Err(io::Error::other("lost the upstream")));
    let (app, _) = app([Response::new(body), "whole".into_response()]);
    let server = Server::start(app).await;
    let key = fresh_key();
    let mut wire = server.connect().await;
    wire.send(format!(
        "POST / HTTP/1.1\r\nHost: h\r\nIdempotency-Key: {key}\r\nConnection: close\r\n\r\n"
    ))
    .await;
    // Closed, with nothing or with a chunked body that does not end: never a whole response.
    let bytes = wire.rest_of_bytes().await;
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.to_ascii_lowercase().contains("content-length"), "{text}");
    assert!(!text.ends_with("0\r\n\r\n"), "{text}");
    assert_eq!(exchange(&server, "POST", "/", &key).await.text(), "whole");
}

#[tokio::test]
async fn max_response_bytes_is_the_largest_body_that_is_stored() {
    for (length, stored) in [(MAX_BYTES - 1, true), (MAX_BYTES, true), (MAX_BYTES + 1, false)] {
        let content = vec![b'x'; length];
        let (sender, streamed) = frames();
        for chunk in content.chunks(100) {
            sender.data(Bytes::copy_from_slice(chunk));
        }
        drop(sender);
        for response in [content.clone().into_response(), Response::new(streamed)] {
            let (app, _) = app([response]);
            let key = fresh_key();
            let first = post("/").key(&key).send(&app).await;
            assert_eq!(first.body, content, "the first caller gets it whole");
            let second = post("/").key(&key).send(&app).await;
            assert_eq!(second.is_replay(), stored, "{length}");
            if !stored {
                assert_eq!(second.problem(), (409, "response_not_stored".to_owned()));
            }
        }
    }
}

#[tokio::test]
async fn a_body_over_max_response_bytes_streams_on_and_duplicates_get_409() {
    let (sender, body) = frames();
    let part = vec![b'x'; MAX_BYTES];
    sender.data(part.clone());
    sender.data("y");
    let (app, _) = app([Response::new(body)]);
    let key = fresh_key();
    let mut first = post("/").key(&key).begin(&app).await.into_body();
    // It has not ended, yet it is being sent, and duplicates are told.
    assert_eq!(read(&mut first, MAX_BYTES + 1).await, [&part[..], b"y"].concat());
    let duplicate = post("/").key(&key).send(&app).await;
    assert_eq!(duplicate.problem(), (409, "response_not_stored".to_owned()));
    sender.data("the end");
    assert_eq!(read(&mut first, 7).await, b"the end");
    drop(sender);
    assert!(first.frame().await.is_none());
}

#[tokio::test]
async fn a_body_that_is_too_large_from_the_start_is_not_buffered() {
    /// Declares its length, and never yields a byte.
    struct Declared;

    impl http_body::Body for Declared {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            std::task::Poll::Pending
        }

        fn size_hint(&self) -> http_body::SizeHint {
            http_body::SizeHint::with_exact(1 << 40)
        }
    }
    let (app, _) = app([Response::new(Body::new(Declared))]);
    let key = fresh_key();
    let first = post("/").key(&key).begin(&app).await;
    assert_eq!(first.headers()["content-length"], "1099511627776");
    let duplicate = post("/").key(&key).send(&app).await;
    assert_eq!(duplicate.problem(), (409, "response_not_stored".to_owned()));
}

#[tokio::test]
async fn a_body_with_trailers_reaches_its_caller_and_is_not_stored() {
    let (sender, body) = frames();
    sender.data("data");
    let mut trailers = axum::http::HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("7"));
    sender.send(Ok(Frame::trailers(trailers.clone())));
    drop(sender);
    let (app, _) = app([Response::new(body)]);
    let key = fresh_key();
    let first = post("/").key(&key).begin(&app).await.into_body();
    let first = first.collect().await.expect("no error");
    assert_eq!(first.trailers(), Some(&trailers));
    assert_eq!(first.to_bytes(), "data");
    let duplicate = post("/").key(&key).send(&app).await;
    assert_eq!(duplicate.problem(), (409, "response_not_stored".to_owned()));
}

/// Asserts that the response passes through while its body is still open, and frees its key.
pub(super) async fn assert_passes_through(path: &str, respond: impl Fn(Body) -> Response) {
    let ((one, first), (two, second)) = (frames(), frames());
    one.data("a");
    two.data("b");
    let (app, _) = app([respond(first), respond(second)]);
    let key = fresh_key();
    let mut first = post(path).key(&key).begin(&app).await;
    assert_eq!(read(first.body_mut(), 1).await, b"a");
    let mut second = post(path).key(&key).begin(&app).await;
    assert_eq!(read(second.body_mut(), 1).await, b"b");
    assert!(!second.headers().contains_key("idempotent-replayed"));
    // Both are still alive.
    one.data("a2");
    assert_eq!(read(first.body_mut(), 2).await, b"a2");
}

#[tokio::test]
async fn an_event_stream_passes_through_at_once_unstored() {
    let types = [
        "text/event-stream",
        "text/event-stream; charset=utf-8",
        "Text/Event-Stream",
        "text/event-stream ;a=b",
    ];
    for value in types {
        let respond = |body| ([(header::CONTENT_TYPE, value)], body).into_response();
        assert_passes_through("/", respond).await;
        assert_passes_through("/everything", respond).await;
    }
}

#[tokio::test]
async fn what_replay_or_outcome_excludes_passes_through_at_once() {
    assert_passes_through("/", |body| (StatusCode::BAD_GATEWAY, body).into_response()).await;
    assert_passes_through("/", |body| (Outcome::Retryable, body).into_response()).await;
}

#[tokio::test]
async fn an_unknown_outcome_passes_through_at_once_and_keeps_its_key() {
    let (sender, body) = frames();
    sender.data("a");
    let (app, _) = app([(Outcome::Unknown, body).into_response()]);
    let key = fresh_key();
    let mut first = post("/").key(&key).begin(&app).await.into_body();
    assert_eq!(read(&mut first, 1).await, b"a");
    let duplicate = post("/").key(&key).send(&app).await;
    assert_eq!(duplicate.problem(), (409, "outcome_unknown".to_owned()));
    drop(sender);
}

#[tokio::test]
async fn switching_protocols_passes_through_unstored() {
    let switch = || {
        let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, "own")];
        (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
    };
    let (app, script) = app([switch(), (Outcome::Final, switch()).into_response(), switch()]);
    let server = Server::start(app).await;
    let key = fresh_key();
    for left in [2, 1, 0] {
        let mut wire = server.connect().await;
        wire.send(format!(
            "GET /everything HTTP/1.1\r\nHost: h\r\nIdempotency-Key: {key}\r\n\
             Connection: upgrade\r\nUpgrade: own\r\n\r\n"
        ))
        .await;
        let head = String::from_utf8_lossy(wire.read_until("\r\n\r\n").await).into_owned();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(!head.contains("idempotent-replayed"));
        assert_eq!(script.left(), left);
    }
}
