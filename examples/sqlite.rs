//! One process with a file: what is stored survives a restart, without a server.
//!
//! Run it, send the request, stop it with Ctrl-C, run it again, and send the request again:
//!
//! ```text
//! cargo run --example sqlite --features sqlite -- /tmp/idempotency.db
//! curl -i 127.0.0.1:3000/payments -H 'idempotency-key: 8e03978e-40d5-43e8-bc93-6894a57f9324' -d 'order 7'
//! ```

use std::{env, error::Error};

use axum::{Router, extract::State, http::StatusCode, routing::post};
use idempotent_axum::{Idempotency, SqliteStore, idempotent};
use tokio::{net::TcpListener, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).unwrap_or_else(|| "idempotency.db".to_owned());
    let store = SqliteStore::connect(path).await?;
    let idempotency = Idempotency::new(store.clone());
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    let app = app(std::process::id(), idempotency.clone());
    let stop = async { _ = signal::ctrl_c().await };
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    idempotency.drain().await;
    store.close().await; // everything is in the one file, which can be copied now
    Ok(())
}

pub(crate) fn app(process: u32, idempotency: Idempotency) -> Router {
    Router::new().route("/payments", post(pay)).layer(idempotency).with_state(process)
}

#[idempotent(ttl = "24h")]
async fn pay(State(process): State<u32>, order: String) -> (StatusCode, String) {
    (StatusCode::CREATED, format!("{order}: paid by process {process}\n"))
}
