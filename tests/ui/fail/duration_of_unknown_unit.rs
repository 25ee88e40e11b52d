//! A duration in a unit that does not exist.
use idempotent_axum::idempotent;

#[idempotent(ttl = "2 fortnights")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
