//! A panic frees the key and reaches the caller as it would without the attribute.

use std::{
    convert::Infallible,
    future::{Future, ready},
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::Body,
    extract::{FromRequestParts, State},
    http::request::Parts,
    middleware::from_fn,
    routing::post,
};
use bytes::Bytes;
use http_body::Frame;
use idempotent_axum::{Idempotency, MemoryStore, idempotent};
use idempotent_test_support::{
    Counter, Gate, Leased, Server, count_ends, fresh_key, post as request,
};
use tower_http::catch_panic::CatchPanicLayer;

type Probe = idempotent_test_support::Probe<MemoryStore>;

#[derive(Clone, Default)]
struct App {
    gate: Gate,
    runs: Counter,
    extractions: Counter,
    ended: Counter,
}

impl App {
    /// Panics in the first run of this service.
    fn run(&self) -> String {
        assert!(self.runs.add() > 0, "the first run panics");
        "done".to_owned()
    }
}

#[idempotent]
async fn before_an_await(State(app): State<App>) -> String {
    let done = app.run();
    tokio::task::yield_now().await;
    done
}

#[idempotent]
async fn after_an_await(State(app): State<App>) -> String {
    tokio::task::yield_now().await;
    app.run()
}

async fn unprotected(State(app): State<App>) -> String {
    app.run()
}

#[idempotent]
async fn gated(State(app): State<App>) -> String {
    app.gate.pass().await;
    app.run()
}

/// A future that is ready at once and panics when it is dropped, in the first run.
struct PanicsOnDrop(App);

impl Future for PanicsOnDrop {
    type Output = String;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<String> {
        Poll::Ready("done".to_owned())
    }
}

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        self.0.run();
    }
}

#[idempotent]
async fn in_a_destructor(State(app): State<App>) -> String {
    PanicsOnDrop(app).await
}

/// A body whose first frame panics in the first run.
struct PanickingBody(App);

impl http_body::Body for PanickingBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.run();
        Poll::Ready(None)
    }
}

#[idempotent]
async fn in_the_response_body(State(app): State<App>) -> Body {
    Body::new(PanickingBody(app))
}

/// Panics at the first extraction of this service.
struct Panicking;

impl FromRequestParts<App> for Panicking {
    type Rejection = Infallible;

    fn from_request_parts(
        _: &mut Parts,
        app: &App,
    ) -> impl Future<Output = Result<Self, Infallible>> {
        assert!(app.extractions.add() > 0, "the first extraction panics");
        ready(Ok(Self))
    }
}

#[idempotent]
async fn in_an_extractor(_: Panicking, State(app): State<App>) -> String {
    format!("run {}", app.runs.add())
}

#[idempotent]
async fn in_the_last_extractor(State(app): State<App>, _: Panicking) -> String {
    format!("run {}", app.runs.add())
}

fn router(app: &App) -> (Router, Probe, Idempotency) {
    let probe = Probe::default();
    let idempotency = Idempotency::new(probe.clone());
    let ended = app.ended.clone();
    let router = Router::new()
        .route("/before-an-await", post(before_an_await))
        .route("/after-an-await", post(after_an_await))
        .route("/unprotected", post(unprotected))
        .route("/gated", post(gated))
        .route("/in-a-destructor", post(in_a_destructor))
        .route("/in-the-response-body", post(in_the_response_body))
        .route("/in-an-extractor", post(in_an_extractor))
        .route("/in-the-last-extractor", post(in_the_last_extractor))
        .layer(idempotency.clone())
        .layer(from_fn(move |request, next| count_ends(ended.clone(), request, next)))
        .with_state(app.clone());
    (router, probe, idempotency)
}

/// The connection of a caller whose handler panics is closed, and its key is free.
async fn a_panic_frees_the_key(path: &str) {
    let app = App::default();
    let (router, ..) = router(&app);
    let server = Server::start(router).await;
    let key = fresh_key();
    assert_eq!(server.open(path, &key, "").await.reply().await, None, "the connection is closed");

    let retry = server.post(path, &key, "").await;
    assert_eq!((retry.status.as_u16(), retry.is_replay()), (200, false), "the key is free");
    let replay = server.post(path, &key, "").await;
    assert!(replay.is_replay());
    assert_eq!(app.runs.get(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_before_an_await_frees_the_key() {
    a_panic_frees_the_key("/before-an-await").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_after_an_await_frees_the_key() {
    a_panic_frees_the_key("/after-an-await").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_destructor_frees_the_key() {
    a_panic_frees_the_key("/in-a-destructor").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_the_response_body_frees_the_key() {
    a_panic_frees_the_key("/in-the-response-body").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_reaches_the_caller_as_without_the_attribute() {
    let mut replies = Vec::new();
    for path in ["/unprotected", "/after-an-await"] {
        let (router, ..) = router(&App::default());
        let server = Server::start(router.layer(CatchPanicLayer::new())).await;
        let mut reply = server.post(path, &fresh_key(), "").await;
        reply.headers.remove("date");
        replies.push(reply);
    }
    assert_eq!(replies[0].status, 500);
    assert_eq!(replies[0], replies[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_detached_handler_frees_the_key() {
    let app = App::default();
    let (router, probe, idempotency) = router(&app);
    let server = Server::start(router).await;
    let key = fresh_key();
    let caller = server.open("/gated", &key, "").await;
    app.gate.arrived.reaches(1).await;
    drop(caller);
    app.ended.reaches(1).await;
    app.gate.open_for_good();
    idempotency.drain().await;
    assert_eq!((app.runs.get(), probe.release.ended.get()), (1, 1));

    assert_eq!(server.post("/gated", &key, "").await.body, "done");
    assert_eq!(app.runs.get(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_while_duplicates_wait_lets_one_of_them_run() {
    let app = App::default();
    let (router, probe, _) = router(&app);
    let server = Server::start(router).await;
    let key = fresh_key();
    let first = server.open("/gated", &key, "").await;
    app.gate.arrived.reaches(1).await;
    let mut waiters = Vec::new();
    for _ in 0..10 {
        waiters.push(server.open("/gated", &key, "").await);
    }
    probe.wait.begun.reaches(10).await;
    app.gate.open_for_good();
    assert_eq!(first.reply().await, None);
    let mut replays = 0;
    for waiter in waiters {
        let reply = waiter.reply().await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.text()), (200, "done"));
        replays += usize::from(reply.is_replay());
    }
    assert_eq!((replays, app.runs.get()), (9, 2));
}

/// A shared store is told in the background, by a task of the runtime that the panic unwinds to.
#[tokio::test]
async fn a_panic_frees_the_key_of_a_shared_store_soon_after() {
    let app = App::default();
    let probe = idempotent_test_support::Probe::on(Leased::default());
    let router = Router::new()
        .route("/before-an-await", post(before_an_await))
        .route("/gated", post(gated))
        .layer(Idempotency::new(probe.clone()))
        .with_state(app.clone());
    // At once, with nobody waiting.
    let key = fresh_key();
    let first = request("/before-an-await").key(&key).spawn(&router).await;
    let panic = first.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref(), Some(&"the first run panics"), "it reaches the caller");
    probe.release.ended.reaches(1).await;
    let retry = request("/before-an-await").key(&key).send(&router).await;
    assert_eq!((retry.text(), retry.is_replay()), ("done", false));
}

#[tokio::test]
async fn a_retry_that_waits_on_a_shared_store_runs_after_a_panic() {
    let app = App::default();
    let probe = idempotent_test_support::Probe::on(Leased::default());
    let router = Router::new()
        .route("/gated", post(gated))
        .layer(Idempotency::new(probe.clone()))
        .with_state(app.clone());
    let key = fresh_key();
    let first = request("/gated").key(&key).spawn(&router);
    app.gate.arrived.reaches(1).await;
    let retry = request("/gated").key(&key).spawn(&router);
    probe.wait.begun.reaches(1).await;
    app.gate.open_for_good();
    assert!(first.await.unwrap_err().is_panic());
    let retry = retry.await.unwrap();
    assert_eq!((retry.text(), retry.is_replay(), app.runs.get()), ("done", false, 2));
    assert_eq!(probe.release.begun.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_an_extractor_claims_nothing() {
    for path in ["/in-an-extractor", "/in-the-last-extractor"] {
        let app = App::default();
        let (router, probe, _) = router(&app);
        let server = Server::start(router).await;
        let key = fresh_key();
        assert_eq!(server.open(path, &key, "").await.reply().await, None);
        assert_eq!(probe.claim.begun.get(), 0);
        assert_eq!(server.post(path, &key, "").await.body, "run 0");
    }
}
