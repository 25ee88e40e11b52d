//! A fingerprint without its expression.
use idempotent_axum::idempotent;

#[idempotent(fingerprint =)]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
