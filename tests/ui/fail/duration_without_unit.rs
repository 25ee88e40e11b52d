//! A duration without a unit.
use idempotent_axum::idempotent;

#[idempotent(ttl = "60")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
