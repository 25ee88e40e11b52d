//! The attribute on top of itself.
use idempotent_axum::idempotent;

#[idempotent(ttl = "1h")]
#[idempotent]
async fn handler() {}

fn main() {
    let _ = handler;
}
