//! A key from an expression, required of a header.
use idempotent_axum::idempotent;

#[idempotent(key = "k", principal = "everyone", required)]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
