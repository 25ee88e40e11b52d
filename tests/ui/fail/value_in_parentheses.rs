//! An option written like a call.
use idempotent_axum::idempotent;

#[idempotent(ttl("1h"))]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
