//! Requests that an extractor refuses: they get its answer, never a replay, and claim nothing.

use axum::{
    Json, Router,
    body::Bytes,
    extract::{FromRequestParts, State},
    http::{StatusCode, request::Parts},
    routing::post as route,
};
use idempotent_axum::{Idempotency, MemoryStore, idempotent};
use idempotent_test_support::{Runs, fresh_key, post};
use serde::Deserialize;

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
