//! A principal that does not implement `Display`.
use axum::{Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

struct User;

#[idempotent(principal = User)]
async fn handler(Path(_): Path<String>) {}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
