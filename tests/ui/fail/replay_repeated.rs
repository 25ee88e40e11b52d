//! A status listed twice.
use idempotent_axum::idempotent;

#[idempotent(replay = ["2xx", "409", "2xx"])]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
