//! The outcome table, row by row: what a request gets depends on what its key holds and on whether
//! it is the same request. The row of a request whose wait is over is tested with the option
//! `wait`.

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post as route};
use idempotent_axum::{Idempotency, MemoryStore, Outcome, idempotent};
use idempotent_test_support::{Answer, Gate, Runs, fresh_key, post};
use tokio::task::JoinHandle;

type Services = (Runs, Gate);

/// Runs at once.
#[idempotent]
async fn instant(State((runs, _)): State<Services>, _body: Bytes) -> (StatusCode, String) {
    (StatusCode::CREATED, runs.next())
}

/// Returns a response that is not stored.
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

/// Returns more than is stored.
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
