//! What Prometheus scrapes: every decision is counted, by operation and outcome.
//!
//! ```text
//! cargo run --example metrics --features metrics
//! curl 127.0.0.1:3000/payments -H 'idempotency-key: 8e03978e-40d5-43e8-bc93-6894a57f9324' -d 'order 7'
//! curl 127.0.0.1:3000/metrics
//! ```
//!
//! Alert rules for these metrics are in `examples/prometheus`, a dashboard is in `examples/grafana`.

use std::{error::Error, time::Duration};

use axum::{
    Router,
    http::header::CONTENT_TYPE,
    routing::{get, post},
};
use idempotent_axum::{Idempotency, MemoryStore, idempotent};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Before `Idempotency::new`, so that what has not happened yet is 0.
    let handle = recorder()?.install_recorder()?;
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            upkeep.run_upkeep(); // in case nobody scrapes
        }
    });
    let app = app(Idempotency::new(MemoryStore::new()), handle);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    Ok(axum::serve(listener, app).await?)
}

/// Histograms rather than summaries, in seconds.
pub(crate) fn recorder() -> Result<PrometheusBuilder, Box<dyn Error>> {
    let seconds = Matcher::Suffix("_seconds".to_owned());
    Ok(PrometheusBuilder::new().set_buckets_for_metric(seconds, &[0.01, 0.1, 1.0, 10.0])?)
}

/// `/metrics` is not for the public: a service serves it on a port of its own, or behind its proxy.
pub(crate) fn app(idempotency: Idempotency, handle: PrometheusHandle) -> Router {
    let scrape = async move || ([(CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render());
    let payments = Router::new().route("/payments", post(pay)).layer(idempotency);
    payments.route("/metrics", get(scrape))
}

#[idempotent]
async fn pay(order: String) -> String {
    format!("paid {order}\n")
}
