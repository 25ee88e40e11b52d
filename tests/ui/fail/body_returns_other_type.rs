//! A body of a type other than the declared one.
use axum::{Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

#[idempotent]
async fn handler(Path(_): Path<String>) -> String {
    42
}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
