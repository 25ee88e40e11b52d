//! A header name without its quotes.
use idempotent_axum::idempotent;

#[idempotent(header = [idempotency_key])]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
