//! What several files use: a [`Service`] on a store that the test makes fail, a [`Client`] of it
//! that retries, and a router with its own store ([`on_own_store`]).

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
    routing::post as route,
};
use idempotent_axum::{Idempotency, MemoryStore, Store, idempotent};
use idempotent_test_support::{Answer, Ask, Counter, Gate, Probe, Runs, fresh_key, post};
use tokio::task::JoinHandle;

/// These routes, with their own store.
pub(crate) fn on_own_store(app: Router<Runs>) -> (Router, Runs) {
    let runs = Runs::default();
    let app = app.layer(Idempotency::new(MemoryStore::new())).with_state(runs.clone());
    (app, runs)
}

/// Short, for a call that hangs: whoever waits for it waits that long.
pub(crate) const SHORT: Duration = Duration::from_millis(20);

#[derive(Clone, Default)]
pub(crate) struct App {
    pub(crate) runs: Counter,
    /// Where a request with the header `x-gate: a` or `b` stops: not part of its fingerprint.
    pub(crate) gates: [Gate; 2],
}

#[idempotent(wait = "1h")]
async fn pay(State(app): State<App>, headers: HeaderMap, body: String) -> Response {
    let run = app.runs.add();
    match headers.get("x-gate").map(HeaderValue::as_bytes) {
        Some(b"a") => drop(app.gates[0].pass().await),
        Some(b"b") => drop(app.gates[1].pass().await),
        _ => {}
    }
    if body == "fails" {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    format!("run {run}").into_response()
}

/// A run of 35 virtual seconds.
#[idempotent]
async fn slow(State(app): State<App>) {
    app.runs.add();
    tokio::time::sleep(Duration::from_secs(35)).await;
}

pub(crate) struct Service<S = Arc<MemoryStore>> {
    pub(crate) app: App,
    pub(crate) probe: Probe<S>,
    pub(crate) idempotency: Idempotency,
    pub(crate) router: Router,
}

/// A service on a store in memory.
pub(crate) fn service(settings: impl FnOnce(Idempotency) -> Idempotency) -> Service {
    service_on(Arc::default(), settings)
}

pub(crate) fn service_on<S: Store + Clone>(
    store: S,
    settings: impl FnOnce(Idempotency) -> Idempotency,
) -> Service<S> {
    let (app, probe) = (App::default(), Probe::on(store));
    let idempotency = settings(Idempotency::new(probe.clone()));
    let router = routes().layer(idempotency.clone()).with_state(app.clone());
    Service { app, probe, idempotency, router }
}

/// `/pay`, and `/slow`, which takes 35 virtual seconds.
pub(crate) fn routes() -> Router<App> {
    Router::new().route("/pay", route(pay)).route("/slow", route(slow))
}

/// What a caller sees of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) status: u16,
    replayed: bool,
    retry_after: bool,
    /// The body, or the code of a problem.
    text: String,
}

impl Seen {
    pub(crate) fn run(run: usize) -> Self {
        Self { status: 200, replayed: false, retry_after: false, text: format!("run {run}") }
    }

    pub(crate) fn replay(run: usize) -> Self {
        Self { replayed: true, ..Self::run(run) }
    }

    pub(crate) fn problem(status: u16, code: &str) -> Self {
        Self { status, replayed: false, retry_after: status == 503, text: code.to_owned() }
    }
}

impl From<Answer> for Seen {
    fn from(answer: Answer) -> Self {
        let is_problem = answer.header("content-type") == Some("application/problem+json");
        Self {
            status: answer.status.as_u16(),
            replayed: answer.is_replay(),
            retry_after: answer.header("retry-after").is_some(),
            text: if is_problem { answer.problem().1 } else { answer.text().to_owned() },
        }
    }
}

/// One client's request and its retries.
pub(crate) struct Client {
    pub(crate) router: Router,
    pub(crate) key: String,
    pub(crate) body: &'static str,
}

impl<S> Service<S> {
    pub(crate) fn client(&self) -> Client {
        let key = fresh_key();
        Client { router: self.router.clone(), key, body: "" }
    }
}

impl Client {
    pub(crate) fn request(&self, path: &str, gate: &str) -> Ask {
        post(path).key(&self.key).header("x-gate", gate).body(self.body)
    }

    pub(crate) async fn send(&self) -> Seen {
        self.request("/pay", "").send(&self.router).await.into()
    }

    /// Sends in the background a request that stops at the gate.
    pub(crate) fn send_to_gate(&self, gate: &str) -> JoinHandle<Seen> {
        let (router, request) = (self.router.clone(), self.request("/pay", gate));
        tokio::spawn(async move { request.send(&router).await.into() })
    }
}
