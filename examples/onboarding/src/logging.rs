//! Logs through `tracing`, to standard error: standard output says only where the service listens.

use std::io;

use anyhow::Context as _;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// `RUST_LOG` chooses what is logged, `info` and above by default.
pub(crate) fn init() -> anyhow::Result<()> {
    let filter =
        EnvFilter::builder()
            .with_default_directive(LevelFilter::INFO.into())
            .from_env()
            .context("RUST_LOG must be a list of filters, such as `info,idempotent_axum=debug`")?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    Ok(())
}
