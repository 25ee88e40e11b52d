//! TODO

use axum::{Router, routing::post as route};
use idempotent_axum::{IdempotencyKey, idempotent};
use idempotent_test_support::{fresh_key, post};

#[tokio::test]
async fn idempotency_key_never_shows_the_key_in_debug() {
    #[idempotent]
    async fn handler(key: IdempotencyKey) -> String {
        format!("{key:?}")
    }
    let app = Router::new().route("/debug", route(handler));
    let key = fresh_key();
    let answer = post("/debug").key(&key).send(&app).await;
    assert_eq!(answer.text(), "IdempotencyKey(set)");
    assert_eq!(post("/debug").send(&app).await.text(), "IdempotencyKey(none)");
}
