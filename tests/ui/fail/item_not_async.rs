//! A handler without `async`.
use idempotent_axum::idempotent;

#[idempotent]
fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
