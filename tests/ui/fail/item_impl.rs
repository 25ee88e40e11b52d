//! An `impl` block.
use idempotent_axum::idempotent;

struct Service;

#[idempotent]
impl Service {
    async fn handler() {}
}

fn main() {
    let _ = Service::handler;
}
