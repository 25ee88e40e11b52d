//! An option that almost exists.
use idempotent_axum::idempotent;

#[idempotent(tll = "1h")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
