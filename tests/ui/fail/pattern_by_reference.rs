//! Bindings by reference.
use axum::{Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

#[idempotent]
async fn last(Path(ref id): Path<String>) -> String {
    id.clone()
}

#[idempotent]
async fn first(Path(ref mut id): Path<String>, body: String) -> String {
    id.push_str(&body);
    id.clone()
}

fn main() {
    let _: Router = Router::new().route("/{id}", post(last).put(first));
}
