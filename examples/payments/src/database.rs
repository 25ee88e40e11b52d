//! Connections, and the tables.
//!
//! Every statement is part of a transaction and not `persistent`: a transaction pooler may give the
//! next transaction to a session that knows nothing of a statement that was prepared before.

use std::{str::FromStr as _, time::Duration};

use idempotent_axum::PostgresStore;
use sqlx::{PgPool, postgres::PgConnectOptions};

use crate::config::Config;

/// Keys and responses, in the same database as the rest.
pub(crate) async fn store(config: &Config) -> anyhow::Result<PostgresStore> {
    let builder = PostgresStore::builder();
    let builder = if config.pooler { builder.transaction_pooler() } else { builder };
    let store = builder.connect(&config.database).await?;
    store.migrate().await?;
    store.purge_expired(Duration::from_mins(1)).detach();
    Ok(store)
}

/// The service's own connections, with its tables made.
pub(crate) async fn pool(config: &Config) -> anyhow::Result<PgPool> {
    let mut options = PgConnectOptions::from_str(&config.database)?;
    if config.pooler {
        // Poolers refuse a startup parameter that they do not track.
        options = options.extra_float_digits(None);
    }
    let pool = PgPool::connect_with(options).await?;
    sqlx::raw_sql(include_str!("schema.sql")).execute(&pool).await?;
    Ok(pool)
}
