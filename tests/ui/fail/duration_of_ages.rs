//! A duration longer than any store can keep.
use idempotent_axum::idempotent;

#[idempotent(ttl = "200 years")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
