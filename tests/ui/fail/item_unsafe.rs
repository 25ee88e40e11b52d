//! An `unsafe` function.
use idempotent_axum::idempotent;

#[idempotent]
async unsafe fn handler() {}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
