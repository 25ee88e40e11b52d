//! The service's settings, read once from the environment.

use std::{
    env::{self, VarError},
    error::Error,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::Context as _;

pub(crate) struct Config {
    /// `ONBOARDING_ADDR`: where to listen, `127.0.0.1:3000` by default. Port 0 takes a free one.
    pub(crate) addr: SocketAddr,
    /// `ONBOARDING_LATENCY`: how long the pretended downstream call takes, such as `300ms`. Not at
    /// all by default.
    pub(crate) latency: Duration,
}

impl Config {
    pub(crate) fn from_env() -> anyhow::Result<Self> {
        let addr = variable(
            "ONBOARDING_ADDR",
            "an IP address with a port, such as `127.0.0.1:3000`",
            str::parse,
        )?;
        let latency = variable(
            "ONBOARDING_LATENCY",
            "a duration, such as `300ms`",
            humantime::parse_duration,
        )?;
        Ok(Self {
            addr: addr.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 3000))),
            latency: latency.unwrap_or_default(),
        })
    }
}

/// The value of a variable, or `None` where it is not set. `expected` says what it must be.
fn variable<T, E: Error + Send + Sync + 'static>(
    name: &str,
    expected: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> anyhow::Result<Option<T>> {
    match env::var(name) {
        Ok(value) => parse(&value)
            .map(Some)
            .with_context(|| format!("{name} must be {expected}, not {value:?}")),
        Err(VarError::NotPresent) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{name} must be {expected}")),
    }
}
