//! A header listed twice.
use idempotent_axum::idempotent;

#[idempotent(header = ["idempotency-key", "Idempotency-Key"])]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
