//! A word that is no status.
use idempotent_axum::idempotent;

#[idempotent(replay = "abc")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
