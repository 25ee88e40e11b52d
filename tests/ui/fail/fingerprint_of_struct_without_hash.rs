//! A fingerprint of the user's own type, which does not derive `Hash`.
use axum::{Json, Router, routing::post};
use idempotent_axum::idempotent;

#[derive(serde::Deserialize)]
struct Invite {}

#[idempotent(fingerprint = invite)]
async fn handler(Json(invite): Json<Invite>) {
    drop(invite);
}

fn main() {
    let _: Router = Router::new().route("/", post(handler));
}
