//! A word that is not a status.
use idempotent_axum::idempotent;

#[idempotent(replay = "abc")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
