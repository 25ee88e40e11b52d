//! Whether the service can do its work: `GET /ready`, for whoever sends it requests.

use axum::{Router, extract::State, routing::get};
use idempotent_axum::Idempotency;

use crate::error::Error;

pub(crate) fn router(idempotency: Idempotency) -> Router {
    Router::new().route("/ready", get(ready)).with_state(idempotency)
}

/// 200 if the store answers, else 503: without it requests with keys are refused.
async fn ready(State(idempotency): State<Idempotency>) -> Result<&'static str, Error> {
    idempotency.check().await?;
    Ok("ready\n")
}
