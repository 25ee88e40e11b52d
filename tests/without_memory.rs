//! The attribute without the feature `memory` and without a layer, and without `utoipa`. A separate
//! run: `cargo test --no-default-features --test without_memory`.
#![cfg(not(any(feature = "memory", feature = "utoipa")))]

use axum::Router;
use idempotent_axum::{Idempotency, idempotent};
use idempotent_test_support::{Events, fresh_key, post};
use tracing::Level;

#[idempotent]
async fn pay() -> &'static str {
    "paid"
}

#[tokio::test]
async fn a_service_without_any_store_answers_503_and_logs_one_error() {
    let (events, _guard) = Events::of_thread();
    let router = Router::new().route("/pay", axum::routing::post(pay));
    for _ in 0..3 {
        let answer = post("/pay").key(fresh_key()).send(&router).await;
        assert_eq!(answer.status, 503);
        assert!(answer.header("retry-after").is_some());
    }
    let errors = events.at(Level::ERROR);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("put an `Idempotency` layer around the router"), "{errors:?}");
    // Without a key no store is asked anything.
    assert_eq!(post("/pay").send(&router).await.status, 200);
    Idempotency::default().drain().await;
}

/// Pays.
#[idempotent]
#[utoipa::path(post, path = "/", responses((status = 200, body = String)))]
async fn described(_order: String) -> &'static str {
    "paid"
}

#[test]
fn an_attribute_above_utoipa_tells_it_nothing() {
    let operation = <__path_described as utoipa::Path>::operation();
    assert!(operation.parameters.is_none());
    let responses = operation.responses.responses;
    let [("200", utoipa::openapi::RefOr::T(paid))] =
        *responses.iter().map(|(status, response)| (&**status, response)).collect::<Vec<_>>()
    else {
        panic!("it has the response that is written: {:?}", responses.keys());
    };
    assert!(paid.headers.is_empty());
}
