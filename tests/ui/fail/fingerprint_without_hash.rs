//! A fingerprint that cannot be hashed.
use axum::{Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

#[idempotent(fingerprint = amount)]
async fn handler(Path(amount): Path<f64>) {
    println!("{amount}");
}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
