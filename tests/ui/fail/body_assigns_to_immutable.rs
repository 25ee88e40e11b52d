//! A parameter changed without `mut`.
use axum::{Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

#[idempotent]
async fn handler(Path(id): Path<String>) -> String {
    id.push(char::from(33));
    id
}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
