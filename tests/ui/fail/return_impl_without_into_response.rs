//! A value that is not what `impl Trait` promises.
use axum::{Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

struct Invited;

#[idempotent]
async fn handler(Path(_): Path<String>) -> impl axum::response::IntoResponse {
    Invited
}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
