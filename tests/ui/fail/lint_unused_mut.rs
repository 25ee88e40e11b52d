//! A needless `mut` is reported as it is without the attribute.
use axum::{Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

#[deny(unused_mut)]
#[idempotent]
async fn handler(Path(mut id): Path<u64>) {
    println!("{id}");
}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
