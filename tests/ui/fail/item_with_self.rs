//! A method.
use idempotent_axum::idempotent;

struct Service;

impl Service {
    #[idempotent]
    async fn handler(self) {}
}

fn main() {
    let _ = Service::handler;
}
