//! Guarantee *One run*: for one scope, principal and key at most one handler runs at a time, across
//! all instances that share a store; after a stored response none runs until its ttl passes.
//!
//! `duplicates` come together, `takeovers` follow a run that stored nothing, `instances` share a
//! server, `releases` share it across an upgrade, `records` cannot be read, `pacing` says how often
//! a waiting duplicate asks, and `model` plays random histories.

mod duplicates;
mod instances;
mod model;
mod pacing;
mod records;
mod releases;
mod takeovers;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use idempotent_axum::{Idempotency, MemoryStore, Outcome, idempotent};
use idempotent_test_support::{Answer, Ask, Counter, Gate, ask};

type Probe = idempotent_test_support::Probe<Arc<MemoryStore>>;

#[derive(Clone, Default)]
struct App {
    runs: Counter,
    gate: Gate,
}

#[idempotent]
async fn instant(State(app): State<App>) -> String {
    format!("run {}", app.runs.add())
}

#[idempotent]
async fn yielding(State(app): State<App>) -> String {
    let run = app.runs.add();
    tokio::task::yield_now().await;
    format!("run {run}")
}

/// Stops at the gate, then does what its body says; only the first run fails, releases or panics.
#[idempotent(wait = "1h")]
async fn gated(State(app): State<App>, body: String) -> Response {
    let run = app.gate.pass().await;
    match body.as_str() {
        "fails" if run == 0 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        "releases" if run == 0 => (Outcome::Retryable, "later").into_response(),
        "panics" if run == 0 => panic!("the first run panics"),
        _ => format!("run {run}").into_response(),
    }
}

/// A failure that takes six seconds.
#[idempotent]
async fn slow_failure(State(app): State<App>) -> StatusCode {
    app.runs.add();
    tokio::time::sleep(Duration::from_secs(6)).await;
    StatusCode::INTERNAL_SERVER_ERROR
}

fn router(app: &App) -> (Router, Probe) {
    let probe = Probe::default();
    let router = Router::new()
        .route("/instant", post(instant))
        .route("/yielding", post(yielding))
        .route("/gated", post(gated))
        .route("/slow-failure", post(slow_failure))
        .layer(Idempotency::new(probe.clone()))
        .with_state(app.clone());
    (router, probe)
}

fn request(path: &str, key: &str, body: &'static str) -> Ask {
    ask(Method::POST, path).key(key).body(body)
}

fn first_runs(answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| !answer.is_replay()).count()
}
