//! `Outcome`: what a handler says about its response, whatever its status.

use axum::{
    Router, extract::State, http::StatusCode, response::IntoResponse, routing::post as route,
};
use idempotent_axum::{Idempotency, MemoryStore, Outcome, idempotent};
use idempotent_test_support::{Runs, fresh_key, post};

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

/// Sends `body` to `pay` twice with one key: both statuses, the second's marker, and the runs.
async fn pay_twice(body: &'static str) -> (u16, u16, bool, usize) {
    let runs = Runs::default();
    let app = Router::new()
        .route("/pay", route(pay))
        .layer(Idempotency::new(MemoryStore::new()))
        .with_state(runs.clone());
    let key = fresh_key();
    let first = post("/pay").key(&key).body(body).send(&app).await;
    let second = post("/pay").key(&key).body(body).send(&app).await;
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
    assert_eq!(post("/unknown-ttl").key(&key).send(&app).await.text(), "run 1");
    while runs.count() == 1 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        post("/unknown-ttl").key(&key).send(&app).await;
    }
    assert!(begun.elapsed() >= std::time::Duration::from_secs(1));
}
