//! An option given twice.
use idempotent_axum::idempotent;

#[idempotent(ttl = "1h", ttl = "2h")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
