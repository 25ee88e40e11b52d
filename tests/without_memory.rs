//! Without the feature `memory` and without a layer there is no store: a request with a key is
//! refused, not run unprotected. Run with `--no-default-features`, as `tests/run` does.
#![cfg(not(feature = "memory"))]

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
    routing::post,
};
use idempotent_axum::idempotent;
use tower::ServiceExt;

#[idempotent]
async fn pay() -> StatusCode {
    StatusCode::CREATED
}

async fn status(key: Option<uuid::Uuid>) -> StatusCode {
    let mut request = Request::post("/pay");
    if let Some(key) = key {
        request = request.header("idempotency-key", key.to_string());
    }
    let app = Router::new().route("/pay", post(pay));
    app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status()
}

#[tokio::test]
async fn a_request_with_a_key_is_refused() {
    assert_eq!(status(Some(uuid::Uuid::new_v4())).await, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_request_without_a_key_runs() {
    assert_eq!(status(None).await, StatusCode::CREATED);
}
