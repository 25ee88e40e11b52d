//! The service's settings, read once from the environment.

use std::{
    env::{self, VarError},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, ensure};

use crate::store::Store;

pub(crate) struct Config {
    /// `ONBOARDING_ADDR`: where to listen, `127.0.0.1:3000` by default. Port 0 takes a free one.
    pub(crate) addr: SocketAddr,
    /// `ONBOARDING_LATENCY`: how long the pretended downstream call takes, such as `300ms`. Not at
    /// all by default.
    pub(crate) latency: Duration,
    /// `ONBOARDING_STORE`: where keys and responses are kept, `memory` by default; `sqlite:path` is a
    /// file of this process. Instances that share a store name it by its URL, such as
    /// `redis://localhost` or `postgres://app@localhost/app`.
    pub(crate) store: Store,
    /// `ONBOARDING_LEASE`: how long a request's claim in a shared store survives the death of its
    /// instance, such as `2s`. 30 seconds by default. Nothing in memory survives it.
    pub(crate) lease: Duration,
    /// `ONBOARDING_NEAR_CACHE`: how many bytes of copies this process keeps of what is in a shared
    /// store, such as `33554432`. None by default.
    #[cfg(feature = "near-cache")]
    pub(crate) near_cache: usize,
    /// `ONBOARDING_ADMIN_TOKEN`: who sends it may look at keys and free them. Nobody may by default.
    pub(crate) admin_token: Option<String>,
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
        let store = value("ONBOARDING_STORE")?.map(|value| value.parse()).transpose();
        let lease = variable("ONBOARDING_LEASE", "a duration above 0, such as `2s`", |value| {
            let lease = humantime::parse_duration(value)?;
            ensure!(!lease.is_zero(), "a claim would end as it is made");
            Ok(lease)
        })?;
        let near_cache = variable(
            "ONBOARDING_NEAR_CACHE",
            "a number of bytes, such as `33554432`",
            str::parse::<usize>,
        )?;
        #[cfg(not(feature = "near-cache"))]
        ensure!(
            near_cache.is_none(),
            "ONBOARDING_NEAR_CACHE is not built in: build the service with `--features near-cache`"
        );
        let admin_token = value("ONBOARDING_ADMIN_TOKEN").context("ONBOARDING_ADMIN_TOKEN")?;
        // Without its value: it is a secret.
        ensure!(
            admin_token.as_ref().is_none_or(|token| token.trim() == token && token.len() >= 16),
            "ONBOARDING_ADMIN_TOKEN must have 16 characters or more, and no space around them"
        );
        Ok(Self {
            addr: addr.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 3000))),
            latency: latency.unwrap_or_default(),
            // Without its value, which may hold a password.
            store: store.context("ONBOARDING_STORE")?.unwrap_or(Store::Memory),
            lease: lease.unwrap_or(Duration::from_secs(30)),
            #[cfg(feature = "near-cache")]
            near_cache: near_cache.unwrap_or(0),
            admin_token,
        })
    }
}

/// What `parse` makes of a variable, or `None` where it is not set. `expected` says what it must be.
fn variable<T, E: Into<anyhow::Error>>(
    name: &str,
    expected: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> anyhow::Result<Option<T>> {
    let Some(value) = value(name).with_context(|| format!("{name} must be {expected}"))? else {
        return Ok(None);
    };
    let parsed = parse(&value).map_err(Into::into);
    parsed.map(Some).with_context(|| format!("{name} must be {expected}, not {value:?}"))
}

/// The value of a variable, or `None` where it is not set.
fn value(name: &str) -> Result<Option<String>, VarError> {
    match env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(error) => Err(error),
    }
}
