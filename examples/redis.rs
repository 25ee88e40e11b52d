//! Two instances that share a Redis: a retry that reaches the other instance gets the first one's response.
//!
//! Run an instance on each of two ports, and send the retry to the other one:
//!
//! ```text
//! REDIS_URL=redis://127.0.0.1 cargo run --example redis --features redis -- 3000
//! REDIS_URL=redis://127.0.0.1 cargo run --example redis --features redis -- 3001
//! curl -i 127.0.0.1:3000/payments -H 'idempotency-key: 8e03978e-40d5-43e8-bc93-6894a57f9324' -d 'order 7'
//! curl -i 127.0.0.1:3001/payments -H 'idempotency-key: 8e03978e-40d5-43e8-bc93-6894a57f9324' -d 'order 7'
//! ```

use std::{env, error::Error};

use axum::{Router, extract::State, http::StatusCode, routing::post};
use idempotent_axum::{Idempotency, RedisStore, idempotent};
use tokio::{net::TcpListener, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1".to_owned());
    let port: u16 = env::args().nth(1).unwrap_or_else(|| "3000".to_owned()).parse()?;
    let idempotency = idempotency(&url).await?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let stop = async { _ = signal::ctrl_c().await };
    axum::serve(listener, app(port, idempotency.clone())).with_graceful_shutdown(stop).await?;
    idempotency.drain().await;
    Ok(())
}

/// The prefix keeps the keys of several services apart that share a Redis.
pub(crate) async fn idempotency(url: &str) -> Result<Idempotency, Box<dyn Error>> {
    Ok(Idempotency::new(RedisStore::builder().prefix("shop").connect(url).await?))
}

pub(crate) fn app(port: u16, idempotency: Idempotency) -> Router {
    Router::new().route("/payments", post(pay)).layer(idempotency).with_state(port)
}

#[idempotent(ttl = "24h")]
async fn pay(State(port): State<u16>, order: String) -> (StatusCode, String) {
    (StatusCode::CREATED, format!("{order}: paid on port {port}\n"))
}
