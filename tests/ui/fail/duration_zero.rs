//! A response that would be stored for no time.
use idempotent_axum::idempotent;

#[idempotent(ttl = "0s")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
