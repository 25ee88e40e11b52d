//! A value held across an `await` that cannot be sent to another thread.
use axum::{Router, extract::Path, routing::post};
use idempotent_axum::idempotent;

#[idempotent]
async fn handler(Path(_): Path<String>) {
    let counter = std::rc::Rc::new(1);
    tokio::task::yield_now().await;
    drop(counter);
}

fn main() {
    let _: Router = Router::new().route("/{id}", post(handler));
}
