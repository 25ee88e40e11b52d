//! Guessable keys without a principal.
use idempotent_axum::idempotent;

#[idempotent(format = "any")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
