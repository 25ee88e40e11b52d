//! The payments service: a payment, its message to the ledger and the response that a retry gets
//! exist together or not at all.
//!
//! ```text
//! POST /payments            {account, amount, currency} -> 201 {id, …}, exactly once
//! POST /payments/plain      the same without `Tx`, to compare with: at least once
//! GET  /payments?account=   the caller's payments to an account
//! GET  /ready               whether the database answers
//! GET  /metrics             for Prometheus
//! ```
//!
//! | file | owns |
//! |---|---|
//! | `config.rs` | the variables |
//! | `database.rs`, `schema.sql` | connections, and the tables |
//! | `client.rs` | who calls |
//! | `payments.rs` | the handlers |
//! | `outbox.rs` | messages to the ledger: put in a transaction, delivered after it |
//! | `metrics.rs` | what Prometheus scrapes |
//! | `error.rs` | what can go wrong with a request |
//! | `bin/ledger.rs` | the service downstream, which counts what reaches it again |

mod client;
mod config;
mod database;
mod error;
mod metrics;
mod outbox;
mod payments;

use std::io;

use anyhow::Context as _;
use axum::{Router, extract::State, http::StatusCode, routing::get};
use idempotent_axum::Idempotency;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::config::Config;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    let config = Config::from_env()?;
    // Before the library counts anything.
    let metrics = metrics::router()?;
    let store = database::store(&config).await.context("DATABASE_URL")?;
    let pool = database::pool(&config).await.context("DATABASE_URL")?;
    let idempotency = Idempotency::new(store).lease(config.lease);
    if let Some(ledger) = config.ledger {
        tokio::spawn(outbox::deliver(pool.clone(), ledger));
    }
    let ready = Router::new().route("/ready", get(ready)).with_state(idempotency.clone());
    let app = payments::router(pool, config.latency)
        .merge(ready)
        .layer(idempotency.clone())
        .merge(metrics);

    let listener = TcpListener::bind(config.addr).await.context("PAYMENTS_ADDR")?;
    let shutdown = shutdown().context("cannot catch signals")?;
    // Standard output is line-buffered: whoever waits for this line gets it at once.
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).with_graceful_shutdown(shutdown).await?;
    idempotency.drain().await;
    Ok(())
}

/// 200 if keys can be asked for, which are in the same database as the payments.
async fn ready(State(idempotency): State<Idempotency>) -> StatusCode {
    match idempotency.check().await {
        Ok(()) => StatusCode::OK,
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "not ready");
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// Ends with SIGINT or SIGTERM, which are caught from this call on.
fn shutdown() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
