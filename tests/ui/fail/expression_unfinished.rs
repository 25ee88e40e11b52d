//! An expression that ends too early.
use idempotent_axum::idempotent;

#[idempotent(principal = 1 +)]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
