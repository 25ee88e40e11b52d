//! The service's settings, read once from the environment.

use std::{env, net::SocketAddr, time::Duration};

use anyhow::{Context as _, anyhow};

pub(crate) struct Config {
    /// `DATABASE_URL`: where the payments, the outbox and the keys are.
    pub(crate) database: String,
    /// `PAYMENTS_POOLER`: `true` if that URL leads through a transaction pooler.
    pub(crate) pooler: bool,
    /// `PAYMENTS_ADDR`: where to listen, `127.0.0.1:3000` by default. Port 0 takes a free one.
    pub(crate) addr: SocketAddr,
    /// `PAYMENTS_LATENCY`: how long a payment pretends to work, such as `300ms`. Not at all by
    /// default.
    pub(crate) latency: Duration,
    /// `PAYMENTS_LEASE`: for how long a key stays claimed if this host vanishes. 30 s by default.
    pub(crate) lease: Duration,
    /// `PAYMENTS_LEDGER`: the URL that the outbox is delivered to. It fills up if there is none.
    pub(crate) ledger: Option<String>,
}

impl Config {
    pub(crate) fn from_env() -> anyhow::Result<Self> {
        let text = |text: &str| anyhow::Ok(text.to_owned());
        Ok(Self {
            database: variable("DATABASE_URL", text)?.context("DATABASE_URL is not set")?,
            pooler: variable("PAYMENTS_POOLER", str::parse)?.unwrap_or(false),
            addr: variable("PAYMENTS_ADDR", str::parse)?.unwrap_or(([127, 0, 0, 1], 3000).into()),
            latency: variable("PAYMENTS_LATENCY", humantime::parse_duration)?.unwrap_or_default(),
            lease: variable("PAYMENTS_LEASE", humantime::parse_duration)?
                .unwrap_or(Duration::from_secs(30)),
            ledger: variable("PAYMENTS_LEDGER", text)?,
        })
    }
}

/// What `parse` makes of a variable, or `None` if it is not set.
fn variable<T, E: Into<anyhow::Error>>(
    name: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> anyhow::Result<Option<T>> {
    let Some(value) = env::var_os(name) else { return Ok(None) };
    let value = value.to_str().with_context(|| format!("{name} is not UTF-8"))?;
    let parsed = parse(value).map_err(|error| anyhow!(error.into()));
    parsed.map(Some).with_context(|| format!("{name} is {value:?}"))
}
