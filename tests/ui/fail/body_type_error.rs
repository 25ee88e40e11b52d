//! A wrong type in the body.
use axum::{Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

#[idempotent]
async fn handler(Path(id): Path<String>) -> String {
    let id: u64 = id;
    id.to_string()
}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
