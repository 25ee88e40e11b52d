//! A type that borrows.
use axum::{Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

#[idempotent(principal = name)]
async fn handler(Path(name): Path<&str>) {}

fn main() {
    let _: Router = Router::new().route("/{name}", post(handler));
}
