//! An empty duration.
use idempotent_axum::idempotent;

#[idempotent(wait = "")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
