//! A key from an expression, without a principal.
use axum::{Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

#[idempotent(key = id)]
async fn handler(Path(id): Path<u64>) -> String {
    id.to_string()
}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
