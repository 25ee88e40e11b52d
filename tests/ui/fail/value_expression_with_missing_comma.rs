//! An expression and the next option, without a comma between them.
use idempotent_axum::idempotent;

#[idempotent(principal = "everyone" ttl = "1h")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
