//! A parameter that borrows.
use axum::{Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

#[idempotent]
async fn handler(Path(_): Path<u64>, name: &str) {
    drop(name.len());
}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
