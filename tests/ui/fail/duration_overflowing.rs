//! A duration that does not fit.
use idempotent_axum::idempotent;

#[idempotent(ttl = "99999999999999999999s")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
