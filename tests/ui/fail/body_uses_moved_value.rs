//! A value used after it was moved.
use axum::{Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

#[idempotent]
async fn handler(Path(id): Path<String>) -> String {
    drop(id);
    id
}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
