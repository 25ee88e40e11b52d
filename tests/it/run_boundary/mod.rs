//! `RunBoundary`: everything inside it is one run. What passes it decides, it continues as a whole
//! if its caller leaves, and what its layers make of a replay is dropped.

mod callers;
mod failures;
mod hand_overs;
mod layers;
mod outcomes;
mod replays;
mod requests;
mod retries;
mod services;
mod sub_requests;

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode},
    middleware::Next,
    response::{IntoResponse as _, Response},
    routing::post as route,
};
use idempotent_axum::{Idempotency, MemoryStore, Outcome, Store, idempotent};
use idempotent_test_support::{Answer, Ask, Gate, Probe, Runs, fresh_key, post};

#[derive(Clone, Default)]
struct App {
    runs: Runs,
    /// Where `held` stops.
    gate: Gate,
}

#[idempotent(wait = "1h")]
async fn pay(State(app): State<App>, _body: String) -> (StatusCode, String) {
    (StatusCode::CREATED, app.runs.next())
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
        "retryable" => (Outcome::Retryable, response).into_response(),
        "unknown" => (Outcome::Unknown, response).into_response(),
        other => panic!("no outcome: {other}"),
    }
}

#[idempotent(wait = "1h")]
async fn held(State(app): State<App>, _body: String) -> (StatusCode, String) {
    app.gate.pass().await;
    (StatusCode::CREATED, app.runs.next())
}

fn routes() -> Router<App> {
    Router::new()
        .route("/pay", route(pay))
        .route("/answer", route(answer))
        .route("/held", route(held))
}

/// A service, and a client of it that sends one key.
struct Service<S = MemoryStore> {
    app: App,
    probe: Probe<S>,
    idempotency: Idempotency,
    router: Router,
    key: String,
}

fn service(routes: Router<App>) -> Service {
    service_on(MemoryStore::new(), routes)
}

fn service_on<S: Store + Clone>(store: S, routes: Router<App>) -> Service<S> {
    service_of(App::default(), store, routes)
}

fn service_of<S: Store + Clone>(app: App, store: S, routes: Router<App>) -> Service<S> {
    let probe = Probe::on(store);
    let idempotency = Idempotency::new(probe.clone());
    Service {
        router: routes.layer(idempotency.clone()).with_state(app.clone()),
        app,
        probe,
        idempotency,
        key: fresh_key(),
    }
}

impl<S> Service<S> {
    fn ask(&self, path: &str) -> Ask {
        post(path).key(&self.key)
    }

    async fn send(&self, path: &str) -> Seen {
        self.ask(path).send(&self.router).await.into()
    }
}

/// Status and text of an answer, or the code of a problem; and whether it is a replay.
#[derive(Debug, PartialEq, Eq)]
struct Seen(u16, String, bool);

impl From<Answer> for Seen {
    fn from(answer: Answer) -> Self {
        let (status, is_replay) = (answer.status.as_u16(), answer.is_replay());
        let is_problem = answer.header("content-type") == Some("application/problem+json");
        let text = if is_problem { answer.problem().1 } else { answer.text().to_owned() };
        Self(status, text, is_replay)
    }
}

fn first(status: u16, text: &str) -> Seen {
    Seen(status, text.to_owned(), false)
}

fn replay(status: u16, text: &str) -> Seen {
    Seen(status, text.to_owned(), true)
}

/// What a duplicate gets if the outcome is unknown.
fn unknown() -> Seen {
    first(409, "outcome_unknown")
}

/// A layer that numbers the responses it sees.
async fn number(State(seen): State<Runs>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let number = seen.next().parse::<HeaderValue>().expect("a header value");
    response.headers_mut().insert("x-layer", number);
    response
}
