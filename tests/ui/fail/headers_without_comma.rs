//! Two header names without a comma.
use idempotent_axum::idempotent;

#[idempotent(header = ["a" "b"])]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
