//! The README's first program: a handler that is safe to retry.
//!
//! `cargo run --example hello`, then the README's two `curl` commands.

use axum::{Router, http::StatusCode, routing::post};
use idempotent_axum::idempotent;
use std::sync::atomic::{AtomicU32, Ordering};

static PAYMENTS: AtomicU32 = AtomicU32::new(0);

#[idempotent(ttl = "1h")]
async fn pay(order: String) -> (StatusCode, String) {
    let id = PAYMENTS.fetch_add(1, Ordering::Relaxed) + 1;
    (StatusCode::CREATED, format!("payment {id} for {order}\n"))
}

pub(crate) fn app() -> Router {
    Router::new().route("/payments", post(pay))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app()).await
}
