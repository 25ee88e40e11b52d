//! A flag with a value.
use idempotent_axum::idempotent;

#[idempotent(required = true)]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
