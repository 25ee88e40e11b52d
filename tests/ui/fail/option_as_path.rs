//! An option with a path as its name.
use idempotent_axum::idempotent;

#[idempotent(idempotent::ttl = "1h")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
