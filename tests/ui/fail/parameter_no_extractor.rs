//! A parameter that is not an extractor.
use axum::{Json, Router, routing::post};
use idempotent_axum::idempotent;

#[idempotent]
async fn handler(id: u64, Json(_): Json<u64>) {
    drop(id);
}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
