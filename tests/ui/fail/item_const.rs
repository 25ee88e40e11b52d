//! A `const` function.
use idempotent_axum::idempotent;

#[idempotent]
const async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
