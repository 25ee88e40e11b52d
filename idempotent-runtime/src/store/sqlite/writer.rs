//! [`Writer`]: the one connection that writes, in its own thread.
//!
//! It takes all waiting jobs into one transaction: while the disk confirms one, the next gather, so
//! that concurrent requests share a commit. Each is answered once its transaction is on disk. The
//! thread depends on no runtime, and ends with the store.

use std::sync::Arc;

use sqlx::{Connection as _, Error, SqliteConnection};
use tokio::{runtime, sync::mpsc::UnboundedSender, time::timeout_at};

use super::{
    error,
    health::Health,
    owner::Owner,
    place::Place,
    purge::Purge,
    queue::{Batch, Job, Jobs, queue},
    room::Room,
    schema::run,
    sql::{self, Millis, New},
};
use crate::store::{ConnectError, evictions::Evictions};

/// The maximum size of the records in one transaction, unless a single one is larger.
const MOST_BYTES: u64 = 4 << 20;

/// Writes until the store is closed or gone.
pub(super) struct Writer {
    pub(super) connection: SqliteConnection,
    pub(super) health: Arc<Health>,
    pub(super) evictions: Arc<Evictions>,
    /// `None` if there is no limit.
    pub(super) room: Option<Room>,
    /// Released once the connection is closed.
    pub(super) owner: Owner,
}

/// What a transaction did.
struct Written {
    /// For each job that forgets, whether there was a record.
    found: Vec<bool>,
    evicted: u64,
    room: Option<Room>,
}

impl Writer {
    /// Starts the thread, and returns the sender for its jobs.
    pub(super) fn start(self, place: &Place) -> Result<UnboundedSender<Job>, ConnectError> {
        let failed = |error| place.unusable("no thread could be started").because(error);
        let runtime = runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(failed)?;
        let (sender, jobs) = queue();
        std::thread::Builder::new()
            .name("idempotent-sqlite".to_owned())
            .spawn(move || runtime.block_on(self.write_all(jobs)))
            .map_err(failed)?;
        Ok(sender)
    }

    async fn write_all(mut self, mut jobs: Jobs) {
        let most_bytes = self.room.map_or(MOST_BYTES, |room| room.max_bytes().min(MOST_BYTES));
        let mut purge = Purge::new();
        let closed = loop {
            match timeout_at(purge.due(), jobs.batch(most_bytes)).await {
                Ok(Some(mut batch)) => {
                    let closed = batch.close.take();
                    self.commit(batch, &jobs).await;
                    if closed.is_some() {
                        break closed;
                    }
                }
                Ok(None) => break None,
                Err(_) => {}
            }
            purge.run_if_due(&mut self).await;
        };
        // Whoever opens the file next will be told if anything is wrong with it.
        let _ = self.connection.close().await;
        drop(self.owner);
        if let Some(closed) = closed {
            let _ = closed.send(());
        }
    }

    /// Executes a batch, and answers its callers.
    async fn commit(&mut self, batch: Batch, jobs: &Jobs) {
        if batch.is_empty() {
            return;
        }
        let writing = self.health.writing();
        let written = self.write(&batch, jobs).await;
        drop(writing);
        match written {
            Ok(Written { found, evicted, room }) => {
                self.health.written();
                self.room = room;
                if evicted > 0 {
                    self.evictions.add(evicted);
                }
                batch.succeed(found);
            }
            Err(error) => {
                let failure = self.health.not_written(&error);
                batch.fail(|| failure.to_error());
            }
        }
    }

    /// Executes a batch in one transaction.
    async fn write(&mut self, batch: &Batch, jobs: &Jobs) -> Result<Written, Error> {
        self.begin(jobs).await?;
        let written = match self.work_on(batch).await {
            Ok(written) => run(&mut self.connection, "COMMIT").await.map(|()| written),
            Err(error) => Err(error),
        };
        if written.is_err() {
            // SQLite may have rolled back already, and then reports that there is nothing to roll
            // back.
            let _ = run(&mut self.connection, "ROLLBACK").await;
        }
        written
    }

    /// Begins a transaction. Waits for another program that is in the way, as for a disk that
    /// hangs: the jobs remain to be done, and meanwhile nothing new is claimed.
    async fn begin(&mut self, jobs: &Jobs) -> Result<(), Error> {
        loop {
            let begun = run(&mut self.connection, "BEGIN IMMEDIATE").await;
            match &begun {
                Err(error) if error::is_locked(error) => {
                    self.health.not_written(error);
                }
                _ => return begun,
            }
            if self.health.is_closing() || jobs.are_over() {
                return begun;
            }
        }
    }

    async fn work_on(&mut self, Batch { stores, forgets, .. }: &Batch) -> Result<Written, Error> {
        let (connection, now) = (&mut self.connection, Millis::now());
        let (mut room, mut evicted) = (self.room, 0);
        let mut found = Vec::with_capacity(forgets.len());
        for forget in forgets {
            let row = sql::row(connection, forget.key).await?.filter(|row| row.expires > now);
            if let Some(row) = row {
                sql::delete(connection, &[row]).await?;
                if let Some(room) = &mut room {
                    room.deleted(&[row]);
                }
            }
            found.push(row.is_some());
        }
        if !stores.is_empty() {
            let new: Vec<_> = stores
                .iter()
                .map(|store| New {
                    attempt: &store.attempt,
                    record: &store.record,
                    expires: now.after(store.ttl),
                })
                .collect();
            if let Some(room) = &mut room {
                evicted = room.make(connection, &new).await?;
            }
            sql::insert(connection, new).await?;
        }
        Ok(Written { found, evicted, room })
    }
}
