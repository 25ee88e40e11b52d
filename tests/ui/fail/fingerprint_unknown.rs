//! A fingerprint that does not exist.
use idempotent_axum::idempotent;

#[idempotent(fingerprint = "body")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
