//! A header name with a space.
use idempotent_axum::idempotent;

#[idempotent(header = "idempotency key")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
