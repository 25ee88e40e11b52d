//! Two commas between options.
use idempotent_axum::idempotent;

#[idempotent(ttl = "1h",, required)]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
