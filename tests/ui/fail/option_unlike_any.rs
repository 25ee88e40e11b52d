//! An option that resembles none.
use idempotent_axum::idempotent;

#[idempotent(cache = "1h")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
