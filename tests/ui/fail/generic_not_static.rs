//! A type parameter that may borrow.
use axum::extract::State;
use idempotent_axum::idempotent;

#[idempotent]
async fn handler<S: Send>(State(service): State<S>) {
    drop(service);
}

fn main() {
    let _ = handler::<u64>;
}
