//! An empty list of statuses.
use idempotent_axum::idempotent;

#[idempotent(replay = [])]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
