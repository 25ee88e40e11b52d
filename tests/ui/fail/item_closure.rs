//! A closure.
use idempotent_axum::idempotent;

fn main() {
    #[idempotent]
    let handler = async || {};
    let _ = handler;
}
