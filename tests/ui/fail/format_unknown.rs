//! A format that does not exist.
use idempotent_axum::idempotent;

#[idempotent(format = "guid")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
