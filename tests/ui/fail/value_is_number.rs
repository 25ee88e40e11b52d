//! A number where a string is expected.
use idempotent_axum::idempotent;

#[idempotent(ttl = 3600)]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
