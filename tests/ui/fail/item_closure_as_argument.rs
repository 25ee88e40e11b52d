//! Above a closure where it is used.
use axum::{Router, routing::post};
use idempotent_axum::idempotent;

fn main() {
    let _: Router = Router::new().route("/", post(#[idempotent] async || {}));
}
