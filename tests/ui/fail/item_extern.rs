//! An `extern` function.
use idempotent_axum::idempotent;

#[idempotent]
async extern "C" fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
