//! A key that does not implement `Display`.
use axum::{Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

#[idempotent(key = path, principal = "everyone")]
async fn handler(path: Path<(u64, u64)>) {
    drop(path);
}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
