//! An option whose value is not written yet.
use idempotent_axum::idempotent;

#[idempotent(ttl = , required)]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
