//! Other attributes, above and below.
#![deny(
    warnings,
    clippy::pedantic,
    clippy::nursery,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    single_use_lifetimes
)]
use axum::{
    Json, Router, debug_handler,
    extract::{Path, State},
    routing::post,
};
use idempotent_axum::idempotent;

#[debug_handler]
#[idempotent(principal = id)]
async fn debugged_above(
    State(()): State<()>,
    Path(id): Path<u64>,
    Json(body): Json<u64>,
) -> String {
    tokio::task::yield_now().await;
    format!("{id}{body}")
}

#[idempotent(principal = id)]
#[debug_handler]
async fn debugged_below(
    State(()): State<()>,
    Path(id): Path<u64>,
    Json(body): Json<u64>,
) -> String {
    format!("{id}{body}")
}

#[idempotent]
#[debug_handler]
async fn debugged_without_parameter() {}

#[tracing::instrument(skip(body), fields(double = id * 2), ret, err)]
#[idempotent]
async fn traced_above(Path(id): Path<u64>, body: String) -> Result<String, String> {
    body.parse::<u64>().map(|body| (body + id).to_string()).map_err(|_| "no number".to_owned())
}

#[idempotent]
#[tracing::instrument(skip_all)]
async fn traced_below(Path(id): Path<u64>, body: String) -> String {
    format!("{id}{body}")
}

fn main() {
    let _: Router = Router::new()
        .route("/a", post(debugged_above).put(debugged_below).patch(debugged_without_parameter))
        .route("/b", post(traced_above).put(traced_below));
}
