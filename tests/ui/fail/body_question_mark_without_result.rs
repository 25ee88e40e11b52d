//! `?` in a body that does not return a `Result`.
use axum::{Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

#[idempotent]
async fn handler(Path(id): Path<String>) {
    id.parse::<u64>()?;
}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
