//! A function without a body.
use idempotent_axum::idempotent;

trait Service {
    #[idempotent]
    async fn handler();
}

fn main() {}
