//! A lock guard held across an `await`.
use std::sync::{Arc, Mutex};

use axum::{Router, extract::State, routing::post};
use idempotent_axum::idempotent;

#[idempotent]
async fn handler(State(count): State<Arc<Mutex<u64>>>) {
    let mut count = count.lock().unwrap();
    tokio::task::yield_now().await;
    *count += 1;
}

fn main() {
    let _: Router = Router::new().route("/", post(handler)).with_state(Arc::default());
}
