//! A value where an option is expected.
use idempotent_axum::idempotent;

#[idempotent("1h")]
async fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
