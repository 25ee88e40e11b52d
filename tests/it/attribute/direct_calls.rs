//! Handlers that a unit test calls directly: with `.into()` on the last argument, they run without
//! a key.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use http_body_util::BodyExt as _;
use idempotent_axum::idempotent;
use idempotent_test_support::Runs;

async fn text(response: Response) -> String {
    let bytes = response.into_body().collect().await.expect("a whole body").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[idempotent(principal = id, fingerprint = id)]
async fn square(Path(id): Path<u64>, Json(mut factor): Json<u64>) -> Result<String, StatusCode> {
    factor *= factor;
    if factor == 0 {
        return Err(StatusCode::UNPROCESSABLE_ENTITY);
    }
    Ok((id * factor).to_string())
}

#[tokio::test]
async fn a_direct_call_gives_the_response_of_the_body() {
    let response = square(Path(2), Json(3).into()).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(text(response).await, "18");
    let response = square(Path(2), Json(0).into()).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

#[idempotent(required, principal = name)]
async fn greet(State(runs): State<Runs>, name: String) -> String {
    format!("{name}: {}", runs.next())
}

#[tokio::test]
async fn a_direct_call_runs_without_a_key_even_where_one_is_required() {
    let runs = Runs::default();
    for run in ["ann: run 1", "ann: run 2"] {
        let response = greet(State(runs.clone()), "ann".to_owned().into()).await;
        assert_eq!(text(response).await, run);
    }
}

#[idempotent(required)]
async fn nothing() -> (StatusCode, &'static str) {
    (StatusCode::CREATED, "nothing")
}

#[tokio::test]
async fn a_direct_call_of_a_handler_without_parameters_passes_unit() {
    let response = nothing(().into()).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(text(response).await, "nothing");
}
