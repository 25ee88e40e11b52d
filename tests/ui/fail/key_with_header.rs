//! A key from an expression and from a header.
use idempotent_axum::idempotent;

#[idempotent(key = "k", principal = "everyone", header = "idempotency-key")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
