//! A struct.
use idempotent_axum::idempotent;

#[idempotent]
struct Handler;

fn main() {
    let _ = Handler;
}
