//! The onboarding service: two public APIs whose POST requests are safe to retry.
//!
//! ```text
//! POST /downstream-entities/onboarding/invite   UUID keys, responses kept for an hour
//! POST /downstream-entities/onboarding/add      the same
//! GET  /downstream-entities, /downstream-entities/{id}
//!
//! POST /v1/members                              any key, per client, responses kept for a week
//! GET  /v1/members, /v1/members/{id}
//!
//! POST /admin/keys/state, /admin/keys/forget    for operators, with a token (see [`admin`])
//! GET  /ready                                   whether the store answers
//! GET  /openapi.json                            the OpenAPI document, which the handlers make
//! GET  /docs                                    the same to read and to try out
//! GET  /metrics                                 for Prometheus
//! GET  /                                        a page to see it on: send twice, cut the connection
//! ```
//!
//! Variables: `ONBOARDING_ADDR`, `ONBOARDING_LATENCY`, `ONBOARDING_STORE`, `ONBOARDING_LEASE`,
//! `ONBOARDING_NEAR_CACHE`, `ONBOARDING_ADMIN_TOKEN` (see [`config`]) and `RUST_LOG`.

mod admin;
mod api;
mod app;
mod auth;
mod config;
mod downstream;
mod entities;
mod error;
mod fields;
mod health;
mod json;
mod live;
mod logging;
mod members;
mod metrics;
mod page;
mod shutdown;
mod store;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;

use crate::{app::App, config::Config};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("onboarding: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    logging::init()?;
    let config = Config::from_env()?;
    // Before the library counts anything.
    let metrics = metrics::router()?;
    let idempotency = config.store.open().await.context("ONBOARDING_STORE")?.lease(config.lease);
    #[cfg(feature = "near-cache")]
    let idempotency = idempotency.near_cache(config.near_cache);
    let app = App::new(&config);
    let (live, idempotency) = (app.live.clone(), app.live.listen_to(idempotency));
    let mut app = app.router().merge(health::router(idempotency.clone()));
    if let Some(token) = config.admin_token {
        app = app.merge(admin::router(token, idempotency.clone()));
    }
    let app = app.layer(idempotency.clone()).merge(metrics);

    let listener = TcpListener::bind(config.addr)
        .await
        .with_context(|| format!("cannot listen on {}", config.addr))?;
    // Before anybody is told that the service is up: a signal from then on must not kill it.
    let (first, second) = shutdown::signals().context("cannot catch signals")?;
    // Standard output is line-buffered: whoever waits for this line gets it at once.
    println!("listening on http://{}", listener.local_addr()?);

    // The page holds a stream open, which would hold the shutdown.
    let first = async move {
        first.await;
        live.end();
    };
    let serve = async {
        axum::serve(listener, app).with_graceful_shutdown(first).await?;
        // Callers that went away left handlers behind; those end, and their responses are stored.
        idempotency.drain().await;
        Ok(())
    };
    tokio::select! {
        ended = serve => ended,
        // A client that never finishes sending its request must not hold the service for ever.
        () = second => bail!("ended by a second signal, before every request was done"),
    }
}
