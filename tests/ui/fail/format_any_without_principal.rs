//! Guessable keys that belong to nobody.
use idempotent_axum::idempotent;

#[idempotent(format = "any")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
