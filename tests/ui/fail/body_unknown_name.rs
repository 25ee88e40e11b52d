//! A name that does not exist.
use axum::{Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

#[idempotent]
async fn handler(Path(id): Path<String>) -> String {
    id + suffix
}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
