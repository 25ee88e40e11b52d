//! `on_event`, the span and the log: every decision is reported once, with what it was about,
//! whoever settles the run.

mod claims;
mod decisions;
mod listeners;
mod log;
#[cfg(feature = "metrics")]
mod metrics;
mod store_calls;
#[cfg(feature = "postgres")]
mod transactions;

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::post as route,
};
use idempotent_axum::{
    Decision, Event, Idempotency, Outcome, RunBoundary, Store, StoreCall, StoreKey, idempotent,
};
use idempotent_test_support::{Ask, Gate, Runs, fresh_key, post};

/// A decision as it was reported.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    operation: String,
    decision: Decision,
    status: Option<u16>,
    key: Option<StoreKey>,
    has_run: bool,
    has_waited: bool,
}

/// Everything that a listener was told.
#[derive(Debug, Clone, Default)]
struct Heard {
    decisions: Arc<Mutex<Vec<Told>>>,
    calls: Arc<Mutex<Vec<StoreCall>>>,
}

impl Heard {
    fn note(&self, event: &Event<'_>) {
        if let Some(decision) = event.decision() {
            self.decisions.lock().unwrap().push(Told {
                operation: event.operation().to_owned(),
                decision,
                status: event.status(),
                key: event.key(),
                has_run: event.run_time().is_some(),
                has_waited: event.wait_time().is_some(),
            });
        }
        self.calls.lock().unwrap().extend(event.store_call());
    }

    fn listens_to(&self, idempotency: Idempotency) -> Idempotency {
        let heard = self.clone();
        idempotency.on_event(move |event| heard.note(event))
    }

    /// All decisions since the last look.
    fn take(&self) -> Vec<Told> {
        std::mem::take(&mut *self.decisions.lock().unwrap())
    }

    /// The words for all decisions since the last look, each with its status.
    fn words(&self) -> Vec<(&'static str, Option<u16>)> {
        self.take().into_iter().map(|told| (told.decision.as_str(), told.status)).collect()
    }

    fn calls(&self) -> Vec<StoreCall> {
        self.calls.lock().unwrap().clone()
    }
}

#[derive(Clone, Default)]
struct App {
    runs: Runs,
    gate: Gate,
}

/// The request gives the status and the outcome: `402 final`.
#[idempotent]
async fn answer(State(app): State<App>, wanted: String) -> Response {
    let (status, word) = wanted.split_once(' ').unwrap_or((&wanted, ""));
    let status = StatusCode::from_bytes(status.as_bytes()).expect("a status");
    let response = (status, app.runs.next()).into_response();
    match word {
        "" => response,
        "final" => (Outcome::Final, response).into_response(),
        "unknown" => (Outcome::Unknown, response).into_response(),
        "large" => (status, "x".repeat(2000)).into_response(),
        "event-stream" => {
            (status, [("content-type", "text/event-stream")], "data: 1\n\n").into_response()
        }
        other => panic!("{other}"),
    }
}

#[idempotent(wait = "1h")]
async fn held(State(app): State<App>, _body: String) -> (StatusCode, String) {
    app.gate.pass().await;
    (StatusCode::CREATED, app.runs.next())
}

#[idempotent(required)]
async fn required(State(app): State<App>) -> String {
    app.runs.next()
}

#[idempotent(scope = "pay by name", key = body.strip_prefix("key "), principal = "everyone")]
async fn keyed(State(app): State<App>, body: String) -> String {
    drop(body);
    app.runs.next()
}

fn routes() -> Router<App> {
    Router::new()
        .route("/answer/{id}", route(answer))
        .route("/held", route(held))
        .route("/required", route(required))
        .route("/keyed", route(keyed))
}

/// Who settles the runs.
#[derive(Debug, Clone, Copy, PartialEq)]
enum By {
    Attribute,
    Boundary,
}

struct Service {
    app: App,
    heard: Heard,
    idempotency: Idempotency,
    router: Router,
    key: String,
}

fn service(by: By, store: impl Store) -> Service {
    service_with(by, store, |settings| settings)
}

fn service_with(
    by: By,
    store: impl Store,
    settings: impl FnOnce(Idempotency) -> Idempotency,
) -> Service {
    let (app, heard) = (App::default(), Heard::default());
    let idempotency = settings(Idempotency::new(store).max_response_bytes(1000));
    let idempotency = heard.listens_to(idempotency);
    let run = match by {
        By::Attribute => routes(),
        By::Boundary => routes().layer(RunBoundary::new()),
    };
    let router = run.layer(idempotency.clone()).with_state(app.clone());
    Service { app, heard, idempotency, router, key: fresh_key() }
}

impl Service {
    fn ask(&self, path: &str, body: &str) -> Ask {
        post(path).key(&self.key).body(body.to_owned())
    }

    /// What is reported about this request.
    async fn tells(&self, path: &str, body: &str) -> Vec<(&'static str, Option<u16>)> {
        self.ask(path, body).send(&self.router).await;
        self.heard.words()
    }
}
