//! A duration without its quotes.
use idempotent_axum::idempotent;

#[idempotent(ttl = 1h)]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
