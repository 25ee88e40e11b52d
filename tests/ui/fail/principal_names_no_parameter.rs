//! An expression with a name that does not exist.
use axum::{Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

#[idempotent(principal = usr)]
async fn handler(Path(user): Path<String>) {
    drop(user);
}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
