//! An empty list of headers.
use idempotent_axum::idempotent;

#[idempotent(header = [])]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
