//! The only parameter is not an extractor; Axum says how to see which one.
use axum::{Router, routing::post};
use idempotent_axum::idempotent;

#[derive(serde::Deserialize)]
struct Invite {}

#[idempotent]
async fn handler(invite: Invite) {
    drop(invite);
}

fn main() {
    let _: Router = Router::new().route("/", post(handler));
}
