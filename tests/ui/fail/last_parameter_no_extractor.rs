//! A last parameter that is not an extractor.
use axum::{Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

#[derive(serde::Deserialize)]
struct Invite {}

#[idempotent]
async fn handler(Path(_): Path<String>, invite: Invite) {
    drop(invite);
}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
