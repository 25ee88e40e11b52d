//! Where keys and responses are kept: `ONBOARDING_STORE`.

use std::str::FromStr;

use anyhow::bail;
use idempotent_axum::{Idempotency, MemoryStore};

pub(crate) enum Store {
    /// This process's own.
    Memory,
    #[cfg(feature = "redis")]
    Redis(String),
    #[cfg(feature = "postgres")]
    Postgres(String),
    /// A file of this process's own.
    #[cfg(feature = "sqlite")]
    Sqlite(String),
}

impl FromStr for Store {
    type Err = anyhow::Error;

    /// Errors name no more of a URL than its scheme: the rest may hold a password.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text == "memory" {
            return Ok(Self::Memory);
        }
        match text.split_once(':').map(|(scheme, _)| scheme) {
            #[cfg(feature = "redis")]
            Some("redis" | "rediss" | "unix") => Ok(Self::Redis(text.to_owned())),
            #[cfg(not(feature = "redis"))]
            Some("redis" | "rediss" | "unix") => {
                bail!("Redis is not built in: build the service with `--features redis`")
            }
            #[cfg(feature = "postgres")]
            Some("postgres" | "postgresql") => Ok(Self::Postgres(text.to_owned())),
            #[cfg(not(feature = "postgres"))]
            Some("postgres" | "postgresql") => {
                bail!("PostgreSQL is not built in: build the service with `--features postgres`")
            }
            #[cfg(feature = "sqlite")]
            Some("sqlite") => Ok(Self::Sqlite(text.to_owned())),
            #[cfg(not(feature = "sqlite"))]
            Some("sqlite") => {
                bail!("SQLite is not built in: build the service with `--features sqlite`")
            }
            Some(scheme) => bail!("no store has URLs that begin with `{scheme}:`, {EXPECTED}"),
            None => bail!("this is no store, {EXPECTED}"),
        }
    }
}

const EXPECTED: &str = "use `memory`, `sqlite:path`, `redis://…` or `postgres://…`";

impl Store {
    /// Connects, so that a store out of reach ends the service at its start.
    pub(crate) async fn open(&self) -> anyhow::Result<Idempotency> {
        match self {
            Self::Memory => Ok(Idempotency::new(MemoryStore::new())),
            #[cfg(feature = "redis")]
            Self::Redis(url) => {
                let store = idempotent_axum::RedisStore::connect(url).await?;
                Ok(Idempotency::new(store))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => {
                let store = idempotent_axum::PostgresStore::connect(url).await?;
                store.migrate().await?;
                store.purge_expired(std::time::Duration::from_mins(1)).detach();
                Ok(Idempotency::new(store))
            }
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => {
                let store = idempotent_axum::SqliteStore::connect(path).await?;
                Ok(Idempotency::new(store))
            }
        }
    }
}
