//! `/metrics`, for Prometheus: what the library counts, and whatever the service does itself.

use std::time::Duration;

use anyhow::Context as _;
use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

/// Bounds of the histograms, in seconds.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// How often what was recorded is put together, if nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Installs the recorder, before anything is counted, and gives the route that shows it.
pub(crate) fn router() -> anyhow::Result<Router> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .install_recorder()
        .context("cannot install the metrics")?;
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    let metrics = async move || ([(CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render());
    Ok(Router::new().route("/metrics", get(metrics)))
}
