//! A parameter that nothing uses is reported as it is without the attribute.
use axum::{Json, Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

#[deny(unused_variables)]
#[idempotent]
async fn handler(Path(_): Path<u64>, Json(body): Json<u64>) {}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
