//! A pattern that does not fit its type.
use axum::{Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

#[idempotent]
async fn handler((id, name): Path<String>) {
    drop((id, name));
}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
