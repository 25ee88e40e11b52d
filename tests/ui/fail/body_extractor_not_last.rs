//! A body extractor before another parameter.
use axum::{Json, Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

#[idempotent]
async fn handler(Json(_): Json<u64>, Path(_): Path<String>) {}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
