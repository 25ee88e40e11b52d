//! The path of the library in quotes.
use idempotent_axum::idempotent;

#[idempotent(crate = "idempotent_axum")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
