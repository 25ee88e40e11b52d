//! Above items that nobody would take for a handler.
use idempotent_axum::idempotent;

#[idempotent]
pub const TTL: u64 = 1;

#[idempotent]
union Either {
    _left: u64,
}

fn main() {}
