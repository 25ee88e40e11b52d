//! An expression that moves what the body needs.
use axum::{Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

#[idempotent(fingerprint = drop(name))]
async fn handler(Path(name): Path<String>) {
    drop(name);
}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
