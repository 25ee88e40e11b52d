//! A status of two digits.
use idempotent_axum::idempotent;

#[idempotent(replay = "20")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
