//! Deleting expired rows in the background.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use sqlx::Row as _;
use tokio::task::JoinHandle;

use super::{connections::Purpose, run::Inner, sql::PURGE_BATCH};
use crate::store::StoreError;

/// Deletes expired rows until it is dropped, or its store is.
///
/// Returned by [`PostgresStore::purge_expired`](super::PostgresStore::purge_expired).
///
/// ```no_run
/// # async fn start() -> Result<(), idempotent_runtime::ConnectError> {
/// use std::time::Duration;
///
/// use idempotent_runtime::{PostgresStore, PurgeTask};
///
/// let store = PostgresStore::connect("postgres://app@db.example/app").await?;
/// let purging: PurgeTask = store.purge_expired(Duration::from_secs(60));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping it stops it: keep it, or `detach` it"]
pub struct PurgeTask(Option<JoinHandle<()>>);

impl PurgeTask {
    pub(super) fn spawn(store: Weak<Inner>, every: Duration) -> Self {
        Self(Some(tokio::spawn(async move {
            while let Some(store) = store.upgrade() {
                purge(&store).await;
                drop(store);
                tokio::time::sleep(every).await;
            }
        })))
    }

    /// Lets it run for as long as the store lives.
    ///
    /// ```no_run
    /// # async fn start() -> Result<(), idempotent_runtime::ConnectError> {
    /// use std::time::Duration;
    ///
    /// use idempotent_runtime::PostgresStore;
    ///
    /// let store = PostgresStore::connect("postgres://app@db.example/app").await?;
    /// store.purge_expired(Duration::from_secs(60)).detach();
    /// # Ok(())
    /// # }
    /// ```
    pub fn detach(mut self) {
        self.0 = None;
    }
}

impl Drop for PurgeTask {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Deletes what has expired, in batches.
async fn purge(store: &Arc<Inner>) {
    let mut purged = 0;
    loop {
        match purge_batch(store).await {
            Ok(rows) => {
                purged += rows;
                if rows < PURGE_BATCH {
                    break;
                }
            }
            Err(error) => {
                tracing::warn!(
                    target: crate::TARGET,
                    error = &error as &dyn std::error::Error,
                    "deleting expired idempotency records failed"
                );
                break;
            }
        }
    }
    if purged > 0 {
        tracing::debug!(target: crate::TARGET, purged, "expired idempotency records deleted");
    }
}

/// Deletes one batch, and returns its number of rows.
async fn purge_batch(store: &Inner) -> Result<i64, StoreError> {
    let row = store.run(Purpose::Ask, &store.statements.purge()).await?;
    let rows = row.ok_or(sqlx::Error::RowNotFound).and_then(|row| row.try_get(0));
    rows.map_err(|error| store.describe(error))
}
