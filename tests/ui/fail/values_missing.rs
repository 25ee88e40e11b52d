//! Every option that takes a value, without one.
use idempotent_axum::idempotent;

#[idempotent(header, format, replay, wait, principal, key, scope, crate)]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
