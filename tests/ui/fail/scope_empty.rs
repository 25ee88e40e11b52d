//! A scope without a name.
use idempotent_axum::idempotent;

#[idempotent(scope = "")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
