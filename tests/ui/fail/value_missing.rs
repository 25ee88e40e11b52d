//! An option without its value.
use idempotent_axum::idempotent;

#[idempotent(ttl)]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
