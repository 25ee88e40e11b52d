//! Callers that go away: a started handler goes on, and its response is there for the retry.

use std::{convert::Infallible, future::Future, pin::pin, task::Poll, time::Duration};

use axum::{
    Router,
    extract::{FromRequestParts, Request, State},
    http::{StatusCode, request::Parts},
    middleware::{Next, from_fn},
    response::Response,
    routing::post,
};
use idempotent_axum::{Idempotency, MemoryStore, idempotent};
use idempotent_test_support::{
    CountOnDrop, Counter, Events, Fault, Gate, Server, count_ends, fresh_key,
};
use tower_http::timeout::TimeoutLayer;
use tracing::Instrument as _;

type Probe = idempotent_test_support::Probe<MemoryStore>;

#[derive(Clone, Default)]
struct App {
    /// Where handlers stop.
    gate: Gate,
    /// What handlers have done: one per run that came to its end.
    effects: Counter,
    /// Guards that handlers were given and that are gone.
    guards: Counter,
    /// Requests whose caller is gone or answered.
    ended: Counter,
}

/// Dropped when the handler that extracted it no longer needs it.
struct Guard(#[allow(dead_code, reason = "counts when it is dropped")] CountOnDrop);

impl FromRequestParts<App> for Guard {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(Self(app.guards.add_on_drop()))
    }
}

#[idempotent(wait = "1h")]
async fn pay(State(app): State<App>, body: String) -> (StatusCode, String) {
    app.gate.pass().await;
    (StatusCode::CREATED, format!("{body}: effect {}", app.effects.add()))
}

#[idempotent]
async fn guarded(State(app): State<App>, _guard: Guard, _: Guard) -> String {
    app.gate.pass().await;
    format!("{} guards gone", app.guards.get())
}

#[idempotent]
async fn traced(State(app): State<App>) {
    app.gate.pass().await;
    tracing::info!("after the hand-over");
    app.effects.add();
}

async fn in_span(request: Request, next: Next) -> Response {
    next.run(request).instrument(tracing::info_span!("caller")).await
}

struct Service {
    app: App,
    probe: Probe,
    idempotency: Idempotency,
    server: Server,
}

impl Service {
    async fn start() -> Self {
        Self::with(|router| router).await
    }

    async fn with(layers: impl FnOnce(Router) -> Router) -> Self {
        let (app, probe) = (App::default(), Probe::default());
        let idempotency = Idempotency::new(probe.clone());
        let ended = app.ended.clone();
        let router = Router::new()
            .route("/pay", post(pay))
            .route("/guarded", post(guarded))
            .route("/traced", post(traced).layer(from_fn(in_span)))
            .layer(idempotency.clone())
            .layer(from_fn(move |request, next| count_ends(ended.clone(), request, next)))
            .with_state(app.clone());
        let server = Server::start(layers(router)).await;
        Self { app, probe, idempotency, server }
    }

    /// Sends a request that is cut off while its handler is at the gate.
    async fn cut_off(&self, path: &str, key: &str) {
        let (arrived, ended) = (self.app.gate.arrived.get(), self.app.ended.get());
        let caller = self.server.open(path, key, "rent").await;
        self.app.gate.arrived.reaches(arrived + 1).await;
        drop(caller);
        self.app.ended.reaches(ended + 1).await;
    }
}

/// Whether `future` is still waiting when it is asked once.
async fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_cut_off_mid_handler_gets_the_one_response_when_it_retries() {
    let service = Service::start().await;
    let key = fresh_key();
    service.cut_off("/pay", &key).await;

    // One retry comes while the handler still runs, one after it.
    let early = service.server.open("/pay", &key, "rent").await;
    service.probe.wait.begun.reaches(1).await;
    service.app.gate.open(1);
    let early = early.reply().await.unwrap();
    let late = service.server.post("/pay", &key, "rent").await;
    for retry in [early, late] {
        assert!(retry.is_replay());
        assert_eq!((retry.status.as_u16(), retry.text()), (201, "rent: effect 0"));
    }
    assert_eq!((service.app.gate.arrived.get(), service.app.effects.get()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outer_timeout_does_not_cancel_the_handler() {
    let timeout =
        TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_millis(50));
    let service = Service::with(|router| router.layer(timeout)).await;
    let key = fresh_key();
    assert_eq!(service.server.post("/pay", &key, "rent").await.status, 408);
    assert_eq!(service.app.gate.arrived.get(), 1);

    service.app.gate.open(1);
    service.idempotency.drain().await;
    let retry = service.server.post("/pay", &key, "rent").await;
    assert!(retry.is_replay());
    assert_eq!((retry.status.as_u16(), retry.text()), (201, "rent: effect 0"));
    assert_eq!(service.app.effects.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_span_stays_current_after_the_hand_over() {
    // The only test of this binary that looks at events.
    let events = Events::of_process();
    let service = Service::start().await;
    service.cut_off("/traced", &fresh_key()).await;
    service.app.gate.open(1);
    service.app.effects.reaches(1).await;
    let all = events.all();
    let event = all.iter().find(|event| event.message == "after the hand-over").unwrap();
    assert_eq!(event.spans, ["caller"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_cut_off_while_it_waits_is_forgotten() {
    let service = Service::start().await;
    let key = fresh_key();
    let first = service.server.open("/pay", &key, "rent").await;
    service.app.gate.arrived.reaches(1).await;
    let waiter = service.server.open("/pay", &key, "rent").await;
    service.probe.wait.begun.reaches(1).await;
    drop(waiter);
    service.probe.wait.ended.reaches(1).await;
    service.app.gate.open(1);
    assert_eq!(first.reply().await.unwrap().body, "rent: effect 0");
    // Nothing started for the waiter, so nothing goes on without it.
    service.idempotency.drain().await;
    assert_eq!(service.app.gate.arrived.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_cut_off_claims_nothing() {
    let service = Service::start().await;
    let key = fresh_key();
    let upload = service.server.open_upload("/pay", &key, "a long body", 3).await;
    drop(upload);
    service.app.ended.reaches(1).await;
    assert_eq!(service.probe.claim.begun.get(), 0);

    service.app.gate.open(1);
    let other = service.server.post("/pay", &key, "another body").await;
    assert_eq!((other.status.as_u16(), other.is_replay()), (201, false));
    assert_eq!(service.probe.claim.begun.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_waits_for_every_handler_and_otherwise_returns_at_once() {
    let service = Service::start().await;
    assert!(!is_pending(&mut Box::pin(service.idempotency.drain())).await, "nothing runs");
    let attended = service.server.open("/pay", &fresh_key(), "rent").await;
    service.app.gate.arrived.reaches(1).await;
    assert!(is_pending(&mut Box::pin(service.idempotency.drain())).await, "its caller waits");
    service.app.gate.open(1);
    assert_eq!(attended.reply().await.unwrap().status, 201);

    service.cut_off("/pay", &fresh_key()).await;
    let mut drain = Box::pin(service.idempotency.drain());
    assert!(is_pending(&mut drain).await, "a handler runs in a task of its own");
    service.app.gate.open(1);
    drain.await;
    assert_eq!(service.app.effects.get(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_waits_for_a_response_that_is_stored_in_the_background() {
    let service = Service::start().await;
    let key = fresh_key();
    service.probe.complete.next([Fault::Fails, Fault::Fails]);
    service.app.gate.open(1);
    let first = service.server.post("/pay", &key, "rent").await;
    assert_eq!((first.status.as_u16(), first.is_replay()), (201, false));

    service.idempotency.drain().await;
    assert_eq!(service.probe.complete.begun.get(), 3);
    assert!(service.server.post("/pay", &key, "rent").await.is_replay());
}

#[tokio::test(flavor = "multi_thread")]
async fn graceful_shutdown_and_drain_lose_nothing() {
    let service = Service::start().await;
    let mut callers = Vec::new();
    for round in 1..=20 {
        service.cut_off("/pay", &fresh_key()).await;
        callers.push(service.server.open("/pay", &fresh_key(), "rent").await);
        service.app.gate.arrived.reaches(2 * round).await;
    }
    let Service { app, probe, idempotency, server } = service;
    let shutdown = tokio::spawn(async move {
        server.stop().await;
        idempotency.drain().await;
    });
    app.gate.open_for_good();
    shutdown.await.unwrap();
    assert_eq!((app.effects.get(), probe.complete.ended.get()), (40, 40));
    for caller in callers {
        assert_eq!(caller.reply().await.unwrap().status, 201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_that_the_body_does_not_name_live_as_long_as_a_detached_body() {
    let service = Service::start().await;
    let key = fresh_key();
    service.cut_off("/guarded", &key).await;
    assert_eq!(service.app.guards.get(), 0);
    service.app.gate.open(1);
    service.idempotency.drain().await;
    assert_eq!(service.server.post("/guarded", &key, "rent").await.body, "0 guards gone");
    // Those of the retry, and those of the detached body.
    assert_eq!(service.app.guards.get(), 4);
}
