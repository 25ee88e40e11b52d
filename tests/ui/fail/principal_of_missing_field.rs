//! An expression with a field that does not exist.
use axum::{Json, Router, routing::post};
use idempotent_axum::idempotent;

#[derive(serde::Deserialize)]
struct User {}

#[idempotent(principal = user.id)]
async fn handler(Json(user): Json<User>) {
    drop(user);
}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
