//! Replays and first responses: which bytes and headers they have, what is never stored, and which
//! responses are not captured at all.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{any, get},
};
use http_body::Frame;
use http_body_util::BodyExt as _;
use idempotent_axum::{Idempotency, MemoryStore, Outcome, idempotent};
use idempotent_test_support::{Answer, Server, ask, frames, fresh_key, post};
use tower_http::{
    compression::CompressionLayer,
    cors::{AllowOrigin, CorsLayer},
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
};

/// The responses that the handlers are going to give. A run too many finds none, and panics.
#[derive(Clone)]
struct Script(Arc<Mutex<VecDeque<Response>>>);

impl Script {
    fn next(&self) -> Response {
        let next = self.0.lock().expect("no panic under the lock").pop_front();
        next.expect("the handler runs as often as the test says")
    }

    fn left(&self) -> usize {
        self.0.lock().expect("no panic under the lock").len()
    }
}

#[idempotent]
async fn protected(State(script): State<Script>) -> Response {
    script.next()
}

#[idempotent(replay = "all")]
async fn everything(State(script): State<Script>) -> Response {
    script.next()
}

async fn bare(State(script): State<Script>) -> Response {
    script.next()
}

const MAX_BYTES: usize = 1000;

/// A service whose handlers give these responses, one after the other.
fn app<const N: usize>(responses: [Response; N]) -> (Router, Script) {
    let script = Script(Arc::new(Mutex::new(responses.into())));
    let app = Router::new()
        .route("/", any(protected))
        .route("/everything", any(everything))
        .route("/bare", any(bare))
        .route("/get", get(protected))
        .route("/bare-get", get(bare))
        .layer(Idempotency::new(MemoryStore::new()).max_response_bytes(MAX_BYTES))
        .with_state(script.clone());
    (app, script)
}

/// The first answer and the replay of a handler that gives `response` once.
async fn first_and_replay(response: Response) -> (Answer, Answer) {
    let (app, _) = app([response]);
    let key = fresh_key();
    let first = post("/everything").key(&key).send(&app).await;
    let replay = post("/everything").key(&key).send(&app).await;
    assert!(!first.is_replay() && replay.is_replay());
    assert_eq!(replay.status, first.status);
    assert_eq!(replay.body, first.body);
    (first, replay)
}

fn all(answer: &Answer, name: &str) -> Vec<Vec<u8>> {
    let values = answer.headers.get_all(name).iter();
    values.map(|value| value.as_bytes().to_owned()).collect()
}

#[tokio::test]
async fn a_replay_has_status_headers_and_body_and_says_that_it_is_one() {
    let response = (
        StatusCode::CREATED,
        [("location", "/members/1"), ("content-type", "text/x-own"), ("etag", "\"1\"")],
        "created",
    );
    let (first, replay) = first_and_replay(response.into_response()).await;
    assert_eq!((first.status, first.text()), (StatusCode::CREATED, "created"));
    let mut expected = first.headers;
    expected.insert("idempotent-replayed", HeaderValue::from_static("true"));
    assert_eq!(replay.headers, expected);
}

#[tokio::test]
async fn repeated_header_lines_come_back_in_order() {
    let mut response = "x".into_response();
    let lines = ["</a>; rel=next", "</b>; rel=prev", "</a>; rel=next", ""];
    for line in lines {
        response.headers_mut().append("link", HeaderValue::from_static(line));
        response.headers_mut().append("vary", HeaderValue::from_static("accept"));
    }
    let (first, replay) = first_and_replay(response).await;
    assert_eq!(all(&first, "link"), lines.map(|line| line.as_bytes().to_owned()));
    assert_eq!(all(&replay, "link"), all(&first, "link"));
    assert_eq!(all(&replay, "vary").len(), 4);
}

#[tokio::test]
async fn header_values_and_bodies_come_back_byte_for_byte() {
    // Every byte that a header value can have.
    let opaque: Vec<u8> =
        (b'\t'..=255).filter(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 127)).collect();
    let body: Vec<u8> = (0..=255).chain(0..=255).collect();
    let mut response = body.clone().into_response();
    let value = HeaderValue::from_bytes(&opaque).expect("a header value");
    response.headers_mut().insert("x-opaque", value);
    let (_, replay) = first_and_replay(response).await;
    assert_eq!(all(&replay, "x-opaque"), [opaque]);
    assert_eq!(replay.body, body);
}

#[tokio::test]
async fn a_body_of_unknown_length_and_many_frames_is_replayed_whole() {
    let (sender, body) = frames();
    for chunk in ["", "one", "", "two", "three", ""] {
        sender.data(chunk);
    }
    drop(sender);
    let (first, replay) = first_and_replay(Response::new(body)).await;
    assert_eq!((first.text(), replay.text()), ("onetwothree", "onetwothree"));
}

#[tokio::test]
async fn what_belongs_to_one_connection_moment_or_request_is_never_stored() {
    let never_stored = [
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("trailer", "x-checksum"),
        ("transfer-encoding", "identity"),
        ("upgrade", "h2c"),
        ("proxy-authenticate", "Basic"),
        ("proxy-authorization", "Basic eA=="),
        ("proxy-authentication-info", "x"),
        ("proxy-connection", "close"),
        ("proxy-status", "x"),
        ("date", "Mon, 01 Jan 2001 00:00:00 GMT"),
        ("content-length", "4"),
        ("set-cookie", "session=1"),
        ("age", "7"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("tracestate", "a=b"),
        ("server-timing", "db;dur=53"),
        ("x-request-id", "r-1"),
    ];
    for (name, value) in never_stored {
        let mut response = "body".into_response();
        response.headers_mut().insert(name, HeaderValue::from_static(value));
        response.headers_mut().insert("x-kept", HeaderValue::from_static("1"));
        let (first, replay) = first_and_replay(response).await;
        assert_eq!(first.header(name), Some(value), "the first caller gets `{name}`");
        // Computed for the replay itself.
        let fresh = (name == "content-length").then_some("4");
        assert_eq!(replay.header(name), fresh, "{name}");
        assert_eq!(replay.header("x-kept"), Some("1"));
    }
}

#[tokio::test]
async fn headers_named_by_connection_are_never_stored() {
    let mut response = "body".into_response();
    for line in ["close, X-Hop", "  x-second ,,", "\"bad name"] {
        response.headers_mut().append("connection", HeaderValue::from_static(line));
    }
    for name in ["x-hop", "x-second", "x-kept"] {
        response.headers_mut().append(name, HeaderValue::from_static("1"));
    }
    let (first, replay) = first_and_replay(response).await;
    for name in ["x-hop", "x-second", "connection"] {
        assert!(first.headers.contains_key(name));
        assert!(!replay.headers.contains_key(name), "{name}");
    }
    assert_eq!(replay.header("x-kept"), Some("1"));
}

#[tokio::test]
async fn a_first_response_never_carries_the_marker() {
    // An upstream service that is idempotent itself may have answered the handler.
    let relayed = || {
        let mut response = "upstream".into_response();
        for value in ["true", "false"] {
            let name = HeaderName::from_static("idempotent-replayed");
            response.headers_mut().append(name, HeaderValue::from_static(value));
        }
        response
    };
    let (first, replay) = first_and_replay(relayed()).await;
    assert_eq!(all(&first, "idempotent-replayed"), Vec::<Vec<u8>>::new());
    assert_eq!(all(&replay, "idempotent-replayed"), [b"true".to_vec()]);
    // Nor does one that is not stored.
    let not_stored = [
        (Outcome::Retryable, relayed()).into_response(),
        (Outcome::Unknown, relayed()).into_response(),
        (StatusCode::BAD_GATEWAY, relayed()).into_response(),
    ];
    for response in not_stored {
        let (app, _) = app([response]);
        let first = post("/").key(fresh_key()).send(&app).await;
        assert!(!first.headers.contains_key("idempotent-replayed"));
    }
}

/// Sends a request without a body over a connection of its own.
async fn exchange(server: &Server, method: &str, path: &str, key: &str) -> Answer {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: h\r\nIdempotency-Key: {key}\r\nConnection: close\r\n\r\n"
    );
    server.exchange(request).await
}

/// All but what differs from answer to answer.
fn comparable(answer: &Answer) -> Answer {
    let mut answer = answer.clone();
    answer.headers.remove("date");
    answer.headers.remove("idempotent-replayed");
    answer
}

/// Asserts that on the wire neither a first response nor its replay can be told from that of the
/// same handler without the attribute, by anything but the marker.
async fn assert_same_on_the_wire(
    method: &str,
    path: [&str; 2],
    response: impl Fn() -> Response,
) -> Answer {
    let (app, script) = app([response(), response()]);
    let server = Server::start(app).await;
    let key = fresh_key();
    let bare = exchange(&server, method, path[0], &key).await;
    let first = exchange(&server, method, path[1], &key).await;
    let replay = exchange(&server, method, path[1], &key).await;
    assert_eq!(comparable(&first), comparable(&bare), "the first response");
    assert_eq!(comparable(&replay), comparable(&bare), "the replay");
    assert!(replay.is_replay());
    assert_eq!(script.left(), 0);
    replay
}

#[tokio::test]
async fn a_204_has_no_content_length_on_the_wire() {
    let response = || StatusCode::NO_CONTENT.into_response();
    let replay = assert_same_on_the_wire("POST", ["/bare", "/"], response).await;
    assert_eq!((replay.status.as_u16(), replay.header("content-length")), (204, None));
    assert_eq!(replay.text(), "");
}

#[tokio::test]
async fn a_304_is_the_same_on_the_wire() {
    let response = || (StatusCode::NOT_MODIFIED, [("etag", "\"1\"")]).into_response();
    let replay = assert_same_on_the_wire("GET", ["/bare", "/"], response).await;
    assert_eq!((replay.status.as_u16(), replay.text()), (304, ""));
}

#[tokio::test]
async fn a_redirect_without_a_body_is_the_same_on_the_wire() {
    let response = || (StatusCode::SEE_OTHER, [("location", "/there")]).into_response();
    let replay = assert_same_on_the_wire("POST", ["/bare", "/"], response).await;
    assert_eq!(replay.header("location"), Some("/there"));
}

#[tokio::test]
async fn a_head_response_has_the_length_of_the_body_that_it_leaves_out() {
    let replay =
        assert_same_on_the_wire("HEAD", ["/bare-get", "/get"], || "12345".into_response()).await;
    assert_eq!(replay.header("content-length"), Some("5"));
    assert_eq!(replay.text(), "");
}

#[tokio::test]
async fn a_length_of_a_body_left_out_is_replayed_not_replaced_by_0() {
    // A handler for HEAD may know the length of what it does not make, and so may a 304.
    let response = || ([(header::CONTENT_LENGTH, "12345")], ()).into_response();
    let replay = assert_same_on_the_wire("HEAD", ["/bare", "/"], response).await;
    assert_eq!(replay.header("content-length"), Some("12345"));
    let response = || (StatusCode::NOT_MODIFIED, response()).into_response();
    assert_same_on_the_wire("GET", ["/bare", "/"], response).await;
}

#[tokio::test]
async fn get_and_head_over_one_route_are_each_replayed_to_themselves() {
    let (app, _) = app(["get".into_response(), "head".into_response()]);
    let server = Server::start(app).await;
    let key = fresh_key();
    assert_eq!(exchange(&server, "GET", "/get", &key).await.text(), "get");
    let head = exchange(&server, "HEAD", "/get", &key).await;
    assert_eq!((head.header("content-length"), head.text()), (Some("4"), ""));
    let replay = exchange(&server, "GET", "/get", &key).await;
    assert_eq!(replay.text(), "get");
}

#[tokio::test]
async fn date_is_fresh_on_a_replay() {
    const OLD: &str = "Mon, 01 Jan 2001 00:00:00 GMT";
    let (app, _) = app([([(header::DATE, OLD)], "x").into_response()]);
    let server = Server::start(app).await;
    let key = fresh_key();
    let first = exchange(&server, "POST", "/", &key).await;
    assert_eq!(first.header("date"), Some(OLD));
    let replay = exchange(&server, "POST", "/", &key).await;
    let date = replay.header("date").expect("a server with a clock sends a date");
    assert!(date != OLD && date.ends_with(" GMT"));
}

/// Reads what is there of a body until `length` bytes came.
async fn read(body: &mut Body, length: usize) -> Vec<u8> {
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
    // It has not ended, and yet it begins, and duplicates know.
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
    /// Says how long it is, and never gives a byte.
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
async fn assert_passes_through(path: &str, respond: impl Fn(Body) -> Response) {
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
        // Whatever the handler says: there is nothing to store.
        assert_passes_through("/", |body| (Outcome::Final, respond(body)).into_response()).await;
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

#[tokio::test]
async fn what_outer_layers_add_is_fresh_on_a_replay() {
    let text = "compressible ".repeat(40);
    let (app, script) = app([text.clone().into_response()]);
    let app = app
        .layer(CompressionLayer::new())
        .layer(CorsLayer::new().allow_origin(AllowOrigin::mirror_request()))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid));
    let key = fresh_key();
    let send = async |origin: &str, encoding: &str| {
        let ask = ask("POST".parse().expect("a method"), "/").key(&key).header("origin", origin);
        ask.header("accept-encoding", encoding).send(&app).await
    };
    let first = send("https://one.example", "gzip").await;
    let plain = send("https://two.example", "identity").await;
    let again = send("https://one.example", "gzip").await;
    assert!(!first.is_replay() && plain.is_replay() && again.is_replay());

    assert_eq!(first.header("content-encoding"), Some("gzip"));
    assert_eq!((plain.header("content-encoding"), plain.text()), (None, text.as_str()));
    assert_eq!((again.header("content-encoding"), &again.body), (Some("gzip"), &first.body));

    let origin = "access-control-allow-origin";
    assert_eq!(first.header(origin), Some("https://one.example"));
    assert_eq!(plain.header(origin), Some("https://two.example"));

    let id = |answer: &Answer| answer.header("x-request-id").map(ToOwned::to_owned);
    let ids = [id(&first), id(&plain), id(&again)];
    assert!(ids.iter().all(Option::is_some));
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    // Produced once each, not stored and added again.
    assert_eq!(all(&again, "vary"), all(&first, "vary"));
    assert_eq!(script.left(), 0);
}

#[tokio::test]
async fn a_request_id_of_the_handler_itself_does_not_hide_that_of_a_replay() {
    let (app, _) = app([([("x-request-id", "of-the-first")], "x").into_response()]);
    let app = app
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid));
    let key = fresh_key();
    let first = post("/").key(&key).send(&app).await;
    assert_eq!(first.header("x-request-id"), Some("of-the-first"));
    let replay = post("/").key(&key).header("x-request-id", "of-the-retry").send(&app).await;
    assert_eq!(replay.header("x-request-id"), Some("of-the-retry"));
}
