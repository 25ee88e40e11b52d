//! A return type that is not a response.
use axum::{Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

struct Invited;

#[idempotent]
async fn handler(Path(_): Path<String>) -> Invited {
    Invited
}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
