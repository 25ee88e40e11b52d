//! `Request` reads the body, so only the last parameter can be one.
use axum::{Router, extract::{Path, Request}, routing::post};
use idempotent_axum::idempotent;

#[idempotent]
async fn handler(_: Request, Path(_): Path<String>) {}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
