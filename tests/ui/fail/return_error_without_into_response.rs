//! An error type that is not a response.
use axum::{Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

#[idempotent]
async fn handler(Path(id): Path<String>) -> Result<String, std::num::ParseIntError> {
    id.parse::<u64>().map(|id| id.to_string())
}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
