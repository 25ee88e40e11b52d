//! Request bodies: buffered up to Axum's limit, only if there is a key; a partial body is never
//! claimed.

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, HeaderValue},
    middleware::from_fn,
    routing::post as route,
};
use http_body::Frame;
use http_body_util::BodyExt as _;
use idempotent_axum::{Idempotency, MemoryStore, idempotent};
use idempotent_test_support::{Counter, Runs, Server, count_ends, frames, fresh_key, post};
use serde::de::IgnoredAny;
use tower_http::limit::RequestBodyLimitLayer;

type Probe = idempotent_test_support::Probe<MemoryStore>;

/// Axum's own default.
const DEFAULT_LIMIT: usize = 2 * 1024 * 1024;

#[idempotent]
async fn bytes(State(runs): State<Runs>, body: Bytes) -> String {
    format!("{}: {}", runs.next(), body.len())
}

#[idempotent]
async fn json(State(runs): State<Runs>, Json(IgnoredAny): Json<IgnoredAny>) -> String {
    runs.next()
}

#[idempotent]
async fn head_only(State(runs): State<Runs>, _headers: HeaderMap) -> String {
    runs.next()
}

#[idempotent]
async fn trailers(State(runs): State<Runs>, body: Body) -> String {
    let _run = runs.next();
    let body = body.collect().await.expect("no error");
    format!("{:?}", body.trailers().and_then(|trailers| trailers.get("x-checksum")))
}

async fn bare(State(runs): State<Runs>, body: Bytes) -> String {
    format!("{}: {}", runs.next(), body.len())
}

fn app(limit: Option<DefaultBodyLimit>) -> (Router, Runs, Probe) {
    let (runs, probe) = (Runs::default(), Probe::default());
    let app = Router::new()
        .route("/bytes", route(bytes))
        .route("/json", route(json))
        .route("/head", route(head_only))
        .route("/trailers", route(trailers))
        .route("/bare", route(bare))
        .layer(Idempotency::new(probe.clone()))
        .with_state(runs.clone());
    let app = match limit {
        Some(limit) => app.layer(limit),
        None => app,
    };
    (app, runs, probe)
}

fn body(length: usize) -> Vec<u8> {
    vec![b' '; length]
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_and_leaves_its_key_unclaimed() {
    let (app, runs, probe) = app(Some(DefaultBodyLimit::max(10)));
    let bare = post("/bare").body(body(11)).send(&app).await;
    for path in ["/bytes", "/json", "/head"] {
        let key = fresh_key();
        let ask = post(path).key(&key).header("content-type", "application/json");
        let answer = ask.body(body(11)).send(&app).await;
        assert_eq!(answer.status, 413);
        // What Axum answers without the attribute.
        assert_eq!(answer, bare, "{path}");
        // A body of unknown length, cut off at the limit.
        let (sender, endless) = frames();
        sender.data(body(6));
        sender.data(body(6));
        assert_eq!(post(path).key(&key).body(endless).send(&app).await, bare);
        assert_eq!((runs.count(), probe.claims().len()), (0, 0));
    }
    let key = fresh_key();
    assert_eq!(post("/bytes").key(&key).body(body(11)).send(&app).await.status, 413);
    assert_eq!(post("/bytes").key(&key).body(body(10)).send(&app).await.text(), "run 1: 10");
    assert!(post("/bytes").key(&key).body(body(10)).send(&app).await.is_replay());
    // Nor does it disturb what is stored.
    assert_eq!(post("/bytes").key(&key).body(body(11)).send(&app).await.status, 413);
    assert!(post("/bytes").key(&key).body(body(10)).send(&app).await.is_replay());
}

#[tokio::test]
async fn the_default_limit_is_that_of_axum() {
    let (app, _, _) = app(None);
    let key = fresh_key();
    let too_large = post("/bytes").key(&key).body(body(DEFAULT_LIMIT + 1)).send(&app).await;
    assert_eq!(too_large.status, 413);
    let answer = post("/bytes").key(&key).body(body(DEFAULT_LIMIT)).send(&app).await;
    assert_eq!(answer.text(), format!("run 1: {DEFAULT_LIMIT}"));
}

#[tokio::test]
async fn a_raised_limit_is_respected() {
    let (app, _, _) = app(Some(DefaultBodyLimit::max(DEFAULT_LIMIT + 2)));
    let answer = post("/bytes").key(fresh_key()).body(body(DEFAULT_LIMIT + 2)).send(&app).await;
    assert_eq!(answer.status, 200);
    let too_large = post("/bytes").key(fresh_key()).body(body(DEFAULT_LIMIT + 3)).send(&app).await;
    assert_eq!(too_large.status, 413);
}

#[tokio::test]
async fn a_disabled_limit_is_respected() {
    let (app, runs, _) = app(Some(DefaultBodyLimit::disable()));
    let key = fresh_key();
    let large = body(2 * DEFAULT_LIMIT);
    let first = post("/bytes").key(&key).body(large.clone()).send(&app).await;
    assert_eq!(first.text(), format!("run 1: {}", large.len()));
    assert!(post("/bytes").key(&key).body(large).send(&app).await.is_replay());
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn a_limit_on_the_route_itself_is_respected() {
    let app = Router::new()
        .route("/tight", route(bytes).layer(DefaultBodyLimit::max(3)))
        .layer(DefaultBodyLimit::max(100))
        .with_state(Runs::default());
    assert_eq!(post("/tight").key(fresh_key()).body(body(4)).send(&app).await.status, 413);
    assert_eq!(post("/tight").key(fresh_key()).body(body(3)).send(&app).await.status, 200);
}

#[tokio::test]
async fn a_limit_of_tower_http_is_413_as_well() {
    let with_axums_own = app(None).0;
    let alone = app(Some(DefaultBodyLimit::disable())).0;
    for app in [with_axums_own, alone] {
        let app = app.layer(RequestBodyLimitLayer::new(10));
        let (sender, endless) = frames();
        sender.data(body(11));
        let answer = post("/bytes").key(fresh_key()).body(endless).send(&app).await;
        assert_eq!(answer.status, 413);
        assert_eq!(post("/bytes").key(fresh_key()).body(body(10)).send(&app).await.status, 200);
    }
}

#[tokio::test]
async fn a_body_that_fails_is_answered_as_axum_does_and_claims_nothing() {
    let (app, runs, probe) = app(None);
    let failing = || {
        let (sender, body) = frames();
        sender.data("part");
        sender.send(Err(std::io::Error::other("the upload broke off")));
        body
    };
    let bare = post("/bare").body(failing()).send(&app).await;
    assert_eq!(bare.status, 400);
    for path in ["/bytes", "/json", "/head"] {
        let ask = post(path).key(fresh_key()).header("content-type", "application/json");
        assert_eq!(ask.body(failing()).send(&app).await, bare, "{path}");
    }
    assert_eq!((runs.count(), probe.claims().len()), (0, 0));
}

#[tokio::test]
async fn a_client_that_aborts_its_upload_claims_nothing() {
    let ((app, runs, probe), ended) = (app(None), Counter::default());
    let count = ended.clone();
    let app = app.layer(from_fn(move |request, next| count_ends(count.clone(), request, next)));
    let server = Server::start(app).await;
    let key = fresh_key();
    let head = format!("POST /bytes HTTP/1.1\r\nHost: h\r\nIdempotency-Key: {key}\r\n");
    let uploads = [
        format!("{head}Content-Length: 10\r\n\r\n"),
        format!("{head}Content-Length: 10\r\n\r\nhello"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhel"),
    ];
    for upload in uploads {
        let mut wire = server.connect().await;
        wire.send(upload).await;
        wire.end_sending().await;
        // The server is done with it once it has closed the connection.
        let answer = wire.rest_of_bytes().await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        assert_eq!((runs.count(), probe.claims().len()), (0, 0));
    }
    // Cut off, so that nobody is left to answer.
    let before = ended.get();
    drop(server.open_upload("/bytes", &key, "hello, and more", 5).await);
    ended.reaches(before + 1).await;
    assert_eq!((runs.count(), probe.claims().len()), (0, 0));
    // The key is free: the retry uploads another body.
    let retry = format!("{head}Content-Length: 5\r\nConnection: close\r\n\r\nother");
    let first = server.exchange(&retry).await;
    assert_eq!((first.text(), first.is_replay()), ("run 1: 5", false));
    assert_eq!(probe.claims().len(), 1);
    let replay = server.exchange(&retry).await;
    assert!(replay.is_replay());
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn the_handler_gets_the_whole_body_and_its_trailers() {
    let (app, _, _) = app(None);
    let with_trailers = || {
        let (sender, body) = frames();
        sender.data("one");
        sender.data("two");
        let trailers = HeaderMap::from_iter([(
            axum::http::HeaderName::from_static("x-checksum"),
            HeaderValue::from_static("7"),
        )]);
        sender.send(Ok(Frame::trailers(trailers)));
        body
    };
    let unprotected = post("/trailers").body(with_trailers()).send(&app).await;
    assert_eq!(unprotected.text(), "Some(\"7\")");
    let answer = post("/trailers").key(fresh_key()).body(with_trailers()).send(&app).await;
    assert_eq!(answer.text(), "Some(\"7\")");
    assert_eq!(
        post("/bytes").key(fresh_key()).body(with_trailers()).send(&app).await.text(),
        "run 3: 6"
    );
}
