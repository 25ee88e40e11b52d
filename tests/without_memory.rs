//! The attribute without the feature `memory` and without a layer. Its own run:
//! `cargo test --no-default-features --test without_memory`.
#![cfg(not(feature = "memory"))]

use axum::{Router, body::Body, http::Request, routing::post};
use idempotent_axum::{Idempotency, idempotent};
use idempotent_test_support::Events;
use tower::ServiceExt as _;
use tracing::Level;

#[idempotent]
async fn pay() -> &'static str {
    "paid"
}

#[tokio::test]
async fn a_service_without_any_store_answers_503_and_logs_one_error() {
    let (events, _guard) = Events::of_thread();
    let router = Router::new().route("/pay", post(pay));
    for _ in 0..3 {
        let request = Request::post("/pay")
            .header("idempotency-key", uuid::Uuid::new_v4().to_string())
            .body(Body::empty())
            .unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 503);
        assert!(response.headers().contains_key("retry-after"));
    }
    let errors = events.at(Level::ERROR);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("put an `Idempotency` layer around the router"), "{errors:?}");
    // Without a key nothing is asked of a store.
    let response = router.oneshot(Request::post("/pay").body(Body::empty()).unwrap()).await;
    assert_eq!(response.unwrap().status(), 200);
    Idempotency::default().drain().await;
}
