//! Guarantee *A started handler is never cancelled*: if its caller goes away, it continues in its
//! own task, and its response is ready for the retry.

mod disconnects;
mod drain;

use std::convert::Infallible;

use axum::{
    Router,
    extract::{FromRequestParts, Request, State},
    http::{StatusCode, request::Parts},
    middleware::{Next, from_fn},
    response::Response,
    routing::post,
};
use idempotent_axum::{Idempotency, MemoryStore, idempotent};
use idempotent_test_support::{CountOnDrop, Counter, Gate, Server, count_ends};
use tracing::Instrument as _;

type Probe = idempotent_test_support::Probe<MemoryStore>;

#[derive(Clone, Default)]
struct App {
    /// Where handlers stop.
    gate: Gate,
    /// What handlers have done: one per run that finished.
    effects: Counter,
    /// Guards that handlers were given and have been dropped.
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
    /// In this process, in addition to the server.
    router: Router,
    server: Server,
}

impl Service {
    async fn start() -> Self {
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
        let server = Server::start(router.clone()).await;
        Self { app, probe, idempotency, router, server }
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
