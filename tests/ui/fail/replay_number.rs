//! A status code as a number.
use idempotent_axum::idempotent;

#[idempotent(replay = 409)]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
