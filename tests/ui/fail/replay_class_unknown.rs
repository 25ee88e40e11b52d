//! A status class that does not exist.
use idempotent_axum::idempotent;

#[idempotent(replay = "6xx")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
