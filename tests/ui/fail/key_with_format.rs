//! A key from an expression, in a format.
use idempotent_axum::idempotent;

#[idempotent(key = "k", principal = "everyone", format = "uuid")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
