//! Parameters that are guards: they live as long as the body, whether it names them or not.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{FromRequest, FromRequestParts, Request},
    http::{StatusCode, request::Parts},
    routing::post,
};
use http_body_util::BodyExt as _;
use idempotent_axum::{Idempotency, MemoryStore, idempotent};
use tokio::sync::{Notify, oneshot};
use tower::ServiceExt as _;

/// What a test sees of a running handler.
#[derive(Clone, Default)]
struct Probe {
    started: Arc<Notify>,
    go_on: Arc<Notify>,
    dropped: Arc<AtomicBool>,
    seen: Arc<AtomicBool>,
}

/// A guard as an extractor: it records when it is dropped.
struct Guard(Probe);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.dropped.store(true, Ordering::SeqCst);
    }
}

fn probe(parts: &Parts) -> Probe {
    parts.extensions.get().cloned().expect("the test's request has a probe")
}

impl<S: Sync> FromRequestParts<S> for Guard {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(probe(parts)))
    }
}

/// How the handler's body talks to the test.
struct Handle(Probe);

impl<S: Sync> FromRequestParts<S> for Handle {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(probe(parts)))
    }
}

/// A guard that reads the body, so it can only be the last parameter.
struct LastGuard {
    _guard: Guard,
}

impl<S: Sync> FromRequest<S> for LastGuard {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Infallible> {
        let (parts, body) = request.into_parts();
        drop(body.collect().await);
        Ok(Self { _guard: Guard(probe(&parts)) })
    }
}

/// A guard next to what the body uses.
struct Guarded {
    _guard: Guard,
    handle: Handle,
}

impl<S: Sync> FromRequestParts<S> for Guarded {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self { _guard: Guard(probe(parts)), handle: Handle(probe(parts)) })
    }
}

impl Guarded {
    fn principal(&self) -> u8 {
        u8::from(self.handle.0.dropped.load(Ordering::SeqCst))
    }
}

impl Probe {
    /// The part of a handler's body that all tests share.
    async fn run(self) {
        self.started.notify_one();
        self.go_on.notified().await;
        self.seen.store(self.dropped.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

#[idempotent]
async fn wildcard(_: Guard, Handle(probe): Handle, _body: String) {
    probe.run().await;
}

#[idempotent]
async fn underscored(_guard: Guard, Handle(probe): Handle, _body: String) {
    probe.run().await;
}

#[idempotent]
async fn in_a_tuple((_guard, Handle(probe)): (Guard, Handle), _body: String) {
    probe.run().await;
}

#[idempotent]
async fn last_wildcard(Handle(probe): Handle, _: LastGuard) {
    probe.run().await;
}

#[idempotent]
async fn last_underscored(Handle(probe): Handle, _guard: LastGuard) {
    probe.run().await;
}

#[idempotent]
async fn in_part(guarded: Guarded, _body: String) {
    guarded.handle.0.run().await;
}

#[idempotent]
async fn last_in_part(guarded: Guarded) {
    guarded.handle.0.run().await;
}

#[idempotent(principal = guarded.principal())]
async fn of_an_expression(guarded: Guarded, Handle(probe): Handle, _body: String) {
    probe.run().await;
}

#[idempotent(principal = guarded.principal())]
async fn last_of_an_expression(Handle(probe): Handle, guarded: Guarded) {
    probe.run().await;
}

fn app() -> (Router, Idempotency) {
    let idempotency = Idempotency::new(MemoryStore::builder().build());
    let app = Router::new()
        .route("/wildcard", post(wildcard))
        .route("/underscored", post(underscored))
        .route("/in_a_tuple", post(in_a_tuple))
        .route("/last_wildcard", post(last_wildcard))
        .route("/last_underscored", post(last_underscored))
        .route("/in_part", post(in_part))
        .route("/last_in_part", post(last_in_part))
        .route("/of_an_expression", post(of_an_expression))
        .route("/last_of_an_expression", post(last_of_an_expression))
        .layer(idempotency.clone());
    (app, idempotency)
}

const GUARDED: [&str; 9] = [
    "/wildcard",
    "/underscored",
    "/in_a_tuple",
    "/last_wildcard",
    "/last_underscored",
    "/in_part",
    "/last_in_part",
    "/of_an_expression",
    "/last_of_an_expression",
];

fn request(path: &str, probe: &Probe, key: Option<uuid::Uuid>) -> Request {
    let mut request = Request::post(path).extension(probe.clone());
    if let Some(key) = key {
        request = request.header("idempotency-key", key.to_string());
    }
    request.body(Body::empty()).expect("a valid request")
}

#[tokio::test]
async fn guards_live_as_long_as_the_body() {
    for path in GUARDED {
        for key in [None, Some(uuid::Uuid::new_v4())] {
            let probe = Probe::default();
            let response = tokio::spawn(app().0.oneshot(request(path, &probe, key)));
            probe.started.notified().await;
            probe.go_on.notify_one();
            let response = response.await.expect("no panic").expect("infallible");
            assert_eq!(response.status(), StatusCode::OK);
            assert!(!probe.seen.load(Ordering::SeqCst), "{path}: dropped while the body ran");
            assert!(probe.dropped.load(Ordering::SeqCst), "{path}: never dropped");
        }
    }
}

#[tokio::test]
async fn guards_live_as_long_as_the_body_when_the_caller_goes_away() {
    for path in GUARDED {
        let (probe, (app, idempotency)) = (Probe::default(), app());
        let (gone, goes) = oneshot::channel::<()>();
        let call = app.oneshot(request(path, &probe, Some(uuid::Uuid::new_v4())));
        let caller = tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = goes => {}
                _ = call => panic!("the handler waits for the test"),
            }
        });
        probe.started.notified().await;
        gone.send(()).expect("the caller waits");
        caller.await.expect("no panic");
        probe.go_on.notify_one();
        idempotency.drain().await;
        assert!(!probe.seen.load(Ordering::SeqCst), "{path}: dropped while the body ran");
        assert!(probe.dropped.load(Ordering::SeqCst), "{path}: never dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_without_a_key_is_cancelled_with_its_caller() {
    let probe = Probe::default();
    let call = app().0.oneshot(request("/underscored", &probe, None));
    assert!(tokio::time::timeout(Duration::from_secs(1), call).await.is_err());
    assert!(probe.dropped.load(Ordering::SeqCst));
}
