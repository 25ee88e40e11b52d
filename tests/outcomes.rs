//! The outcome table of the contract, row by row: what a request meets depends on what its key
//! holds and on whether it is the same request. Then what decides which row comes next: `Outcome`,
//! failed extraction, refused callers.

use axum::{
    Json, Router,
    body::Bytes,
    extract::{FromRequestParts, State},
    http::{StatusCode, request::Parts},
    response::IntoResponse,
    routing::post as route,
};
use idempotent_axum::{Idempotency, MemoryStore, Outcome, idempotent};
use idempotent_test_support::{Answer, Gate, Runs, fresh_key, post};
use serde::Deserialize;
use tokio::task::JoinHandle;

type Services = (Runs, Gate);

/// Runs at once.
#[idempotent]
async fn instant(State((runs, _)): State<Services>, _body: Bytes) -> (StatusCode, String) {
    (StatusCode::CREATED, runs.next())
}

/// Answers what is not stored.
#[idempotent]
async fn failing(State((runs, _)): State<Services>, _body: Bytes) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, runs.next())
}

/// Runs until the gate lets it go.
#[idempotent]
async fn slow(State((runs, gate)): State<Services>, _body: Bytes) -> String {
    let run = runs.next();
    gate.pass().await;
    run
}

/// Runs until the gate lets it go, and lets no duplicate wait.
#[idempotent(wait = "0s")]
async fn impatient(State((runs, gate)): State<Services>, _body: Bytes) -> String {
    let run = runs.next();
    gate.pass().await;
    run
}

/// Answers more than is stored.
#[idempotent]
async fn large(State((runs, _)): State<Services>, _body: Bytes) -> String {
    runs.next() + &"x".repeat(2000)
}

/// Cannot tell whether it took effect.
#[idempotent]
async fn unknown(State((runs, _)): State<Services>, _body: Bytes) -> (Outcome, String) {
    (Outcome::Unknown, runs.next())
}

fn app() -> (Router, Runs, Gate) {
    let (runs, gate) = Services::default();
    let app = Router::new()
        .route("/instant", route(instant))
        .route("/failing", route(failing))
        .route("/slow", route(slow))
        .route("/impatient", route(impatient))
        .route("/large", route(large))
        .route("/unknown", route(unknown))
        .layer(Idempotency::new(MemoryStore::new()).max_response_bytes(1000))
        .with_state((runs.clone(), gate.clone()));
    (app, runs, gate)
}

async fn send(app: &Router, path: &str, key: &str, body: &'static str) -> Answer {
    post(path).key(key).body(body).send(app).await
}

fn spawn(app: &Router, path: &str, key: &str) -> JoinHandle<Answer> {
    post(path).key(key).body("same").spawn(app)
}

#[tokio::test]
async fn nothing_is_claimed_run_and_stored() {
    let (app, runs, _) = app();
    let first = send(&app, "/instant", &fresh_key(), "same").await;
    assert_eq!(
        (first.status, first.text(), first.is_replay()),
        (StatusCode::CREATED, "run 1", false)
    );
    // Another key holds nothing, whatever this one holds.
    let other = send(&app, "/instant", &fresh_key(), "same").await;
    assert_eq!((other.text(), other.is_replay()), ("run 2", false));
    assert_eq!(runs.count(), 2);
}

#[tokio::test]
async fn nothing_is_claimed_run_and_released_where_the_response_is_not_stored() {
    let (app, runs, _) = app();
    let key = fresh_key();
    for run in ["run 1", "run 2"] {
        let answer = send(&app, "/failing", &key, "same").await;
        assert_eq!((answer.status.as_u16(), answer.text(), answer.is_replay()), (500, run, false));
    }
    // Released, so that even another request may use the key.
    assert_eq!(send(&app, "/failing", &key, "other").await.text(), "run 3");
    assert_eq!(runs.count(), 3);
}

#[tokio::test]
async fn a_running_request_is_waited_for_and_replayed_to_the_same_request() {
    let (app, runs, gate) = app();
    let key = fresh_key();
    let first = spawn(&app, "/slow", &key);
    gate.arrived.reaches(1).await;
    let duplicate = spawn(&app, "/slow", &key);
    tokio::task::yield_now().await;
    assert!(!duplicate.is_finished());
    gate.open(1);
    let (first, duplicate) = (first.await.expect("no panic"), duplicate.await.expect("no panic"));
    assert_eq!((first.text(), first.is_replay()), ("run 1", false));
    assert_eq!((duplicate.text(), duplicate.is_replay()), ("run 1", true));
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn a_running_request_is_409_with_retry_after_once_the_wait_is_over() {
    let (app, runs, gate) = app();
    let key = fresh_key();
    let first = spawn(&app, "/impatient", &key);
    gate.arrived.reaches(1).await;
    let duplicate = send(&app, "/impatient", &key, "same").await;
    assert_eq!(duplicate.problem(), (409, "request_in_progress".to_owned()));
    let seconds: u32 =
        duplicate.header("retry-after").expect("it is there").parse().expect("seconds");
    assert!(seconds >= 1);
    gate.open(1);
    assert_eq!(first.await.expect("no panic").text(), "run 1");
    assert!(send(&app, "/impatient", &key, "same").await.is_replay());
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn a_running_request_is_422_at_once_to_another_request() {
    let (app, runs, gate) = app();
    // Whether a duplicate would wait or not: 422 beats 409, and nobody waits for it.
    for (started, path) in [(1, "/slow"), (2, "/impatient")] {
        let key = fresh_key();
        let first = spawn(&app, path, &key);
        gate.arrived.reaches(started).await;
        let other = send(&app, path, &key, "other").await;
        assert_eq!(other.problem(), (422, "key_reused".to_owned()));
        gate.open(1);
        let first = first.await.expect("no panic");
        let replay = send(&app, path, &key, "same").await;
        assert!(replay.is_replay());
        assert_eq!(replay.body, first.body);
    }
    assert_eq!(runs.count(), 2);
}

#[tokio::test]
async fn a_stored_response_is_replayed_to_the_same_request() {
    let (app, runs, _) = app();
    let key = fresh_key();
    let first = send(&app, "/instant", &key, "same").await;
    for _ in 0..3 {
        let replay = send(&app, "/instant", &key, "same").await;
        assert!(replay.is_replay());
        assert_eq!((replay.status, &replay.body), (first.status, &first.body));
    }
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn a_stored_response_is_422_to_another_request_and_stays_as_it_is() {
    let (app, runs, _) = app();
    let key = fresh_key();
    send(&app, "/instant", &key, "same").await;
    for _ in 0..2 {
        let other = send(&app, "/instant", &key, "other").await;
        assert_eq!(other.problem(), (422, "key_reused".to_owned()));
        let replay = send(&app, "/instant", &key, "same").await;
        assert_eq!((replay.text(), replay.is_replay()), ("run 1", true));
    }
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn an_outcome_that_cannot_be_replayed_is_409_and_not_run_again() {
    let (app, runs, _) = app();
    for (path, code) in [("/large", "response_not_stored"), ("/unknown", "outcome_unknown")] {
        let (key, before) = (fresh_key(), runs.count());
        let first = send(&app, path, &key, "same").await;
        assert_eq!((first.status, first.is_replay()), (StatusCode::OK, false));
        for _ in 0..2 {
            let duplicate = send(&app, path, &key, "same").await;
            assert_eq!(duplicate.problem(), (409, code.to_owned()));
            assert_eq!(duplicate.header("retry-after"), None, "a retry would not help");
        }
        assert_eq!(runs.count(), before + 1);
    }
}

#[tokio::test]
async fn an_outcome_that_cannot_be_replayed_is_422_to_another_request() {
    let (app, runs, _) = app();
    for (path, code) in [("/large", "response_not_stored"), ("/unknown", "outcome_unknown")] {
        let (key, before) = (fresh_key(), runs.count());
        send(&app, path, &key, "same").await;
        let other = send(&app, path, &key, "other").await;
        assert_eq!(other.problem(), (422, "key_reused".to_owned()));
        assert_eq!(send(&app, path, &key, "same").await.problem(), (409, code.to_owned()));
        assert_eq!(runs.count(), before + 1);
    }
}

/// An error that knows what became of the request.
#[derive(Debug, Clone, Copy)]
enum PaymentError {
    Declined,
    Busy,
    TimedOut,
}

impl IntoResponse for PaymentError {
    fn into_response(self) -> axum::response::Response {
        match self {
            Self::Declined => {
                (StatusCode::PAYMENT_REQUIRED, Outcome::Final, "declined").into_response()
            }
            Self::Busy => (Outcome::Retryable, "busy").into_response(),
            Self::TimedOut => {
                (StatusCode::GATEWAY_TIMEOUT, Outcome::Unknown, "late").into_response()
            }
        }
    }
}

#[idempotent]
async fn pay(State(runs): State<Runs>, body: String) -> Result<(Outcome, String), PaymentError> {
    let run = runs.next();
    match body.as_str() {
        "declined" => Err(PaymentError::Declined),
        "busy" => Err(PaymentError::Busy),
        "late" => Err(PaymentError::TimedOut)?,
        "final" => Ok((Outcome::Final, run)),
        "retryable" => Ok((Outcome::Retryable, run)),
        _ => Ok((Outcome::Unknown, run)),
    }
}

/// Sends `body` to `pay` twice with one key; status and marker of both answers, and the runs.
async fn pay_twice(body: &'static str) -> (u16, u16, bool, usize) {
    let runs = Runs::default();
    let app = Router::new()
        .route("/pay", route(pay))
        .layer(Idempotency::new(MemoryStore::new()))
        .with_state(runs.clone());
    let key = fresh_key();
    let first = send(&app, "/pay", &key, body).await;
    let second = send(&app, "/pay", &key, body).await;
    assert!(!first.is_replay());
    (first.status.as_u16(), second.status.as_u16(), second.is_replay(), runs.count())
}

#[tokio::test]
async fn outcome_final_stores_whatever_the_status() {
    assert_eq!(pay_twice("final").await, (200, 200, true, 1));
    // In the error of a `Result` as well: a 402 is not stored by default.
    assert_eq!(pay_twice("declined").await, (402, 402, true, 1));
}

#[tokio::test]
async fn outcome_retryable_releases_the_key_whatever_the_status() {
    assert_eq!(pay_twice("retryable").await, (200, 200, false, 2));
    assert_eq!(pay_twice("busy").await, (200, 200, false, 2));
}

#[tokio::test]
async fn outcome_unknown_keeps_the_key_and_answers_duplicates_409() {
    assert_eq!(pay_twice("unknown").await, (200, 409, false, 1));
    assert_eq!(pay_twice("late").await, (504, 409, false, 1));
}

#[tokio::test]
async fn outcome_unknown_ends_with_the_ttl() {
    #[idempotent(ttl = "1s")]
    async fn handler(State(runs): State<Runs>) -> (Outcome, String) {
        (Outcome::Unknown, runs.next())
    }
    let runs = Runs::default();
    let app = Router::new().route("/unknown-ttl", route(handler)).with_state(runs.clone());
    let key = fresh_key();
    let begun = std::time::Instant::now();
    assert_eq!(send(&app, "/unknown-ttl", &key, "").await.text(), "run 1");
    while runs.count() == 1 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        send(&app, "/unknown-ttl", &key, "").await;
    }
    assert!(begun.elapsed() >= std::time::Duration::from_secs(1));
}

#[derive(Deserialize)]
struct Order {
    amount: u32,
}

#[idempotent]
async fn order(State(runs): State<Runs>, Json(order): Json<Order>) -> String {
    format!("{}: {}", runs.next(), order.amount)
}

#[tokio::test]
async fn a_request_that_fails_extraction_claims_nothing() {
    let runs = Runs::default();
    let app = Router::new()
        .route("/", route(order))
        .layer(Idempotency::new(MemoryStore::new()))
        .with_state(runs.clone());
    let key = fresh_key();
    for (body, status) in [("{", 400), ("{\"amount\": \"x\"}", 422), ("{}", 422)] {
        let answer = post("/").key(&key).json(body).send(&app).await;
        assert_eq!(answer.status.as_u16(), status);
        // The extractor's own words.
        assert!(answer.text().starts_with("Failed to"), "{}", answer.text());
    }
    assert_eq!(post("/").key(&key).body("{}").send(&app).await.status, 415);
    let corrected = post("/").key(&key).json("{\"amount\": 1}").send(&app).await;
    assert_eq!((corrected.text(), corrected.is_replay()), ("run 1: 1", false));
    // Nor does it disturb what is stored.
    assert_eq!(post("/").key(&key).json("{").send(&app).await.status, 400);
    assert!(post("/").key(&key).json("{\"amount\": 1}").send(&app).await.is_replay());
    assert_eq!(runs.count(), 1);
}

/// A caller with a token that is valid now.
struct Caller;

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        match parts.headers.get("authorization") {
            Some(token) if token == "Bearer valid" => Ok(Self),
            _ => Err((StatusCode::UNAUTHORIZED, "who are you?")),
        }
    }
}

#[tokio::test]
async fn a_refused_caller_gets_the_refusal_never_a_replay_and_claims_nothing() {
    #[idempotent]
    async fn refuses_first(_: Caller, State(runs): State<Runs>, _body: Bytes) -> String {
        runs.next()
    }
    #[idempotent]
    async fn refuses_last(State(runs): State<Runs>, _caller: Caller) -> String {
        runs.next()
    }
    let runs = Runs::default();
    let app = Router::new()
        .route("/first", route(refuses_first))
        .route("/last", route(refuses_last))
        .layer(Idempotency::new(MemoryStore::new()))
        .with_state(runs.clone());
    for path in ["/first", "/last"] {
        let (key, before) = (fresh_key(), runs.count());
        let refused = async || {
            let answer = post(path).key(&key).send(&app).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (401, "who are you?"));
        };
        let accepted = async || {
            post(path)
                .key(&key)
                .header("authorization", "Bearer valid")
                .send(&app)
                .await
                .is_replay()
        };
        refused().await;
        assert!(!accepted().await);
        refused().await;
        assert!(accepted().await);
        assert_eq!(runs.count(), before + 1);
    }
}
