//! [`SqliteStore`]: one process, one file, nothing to install.
//!
//! ```text
//! verb -> runs: the claims, in memory: they end with the process, as it owns the file
//!      -> readers: what is stored
//!      -> queue -> writer: what is to be stored, many at once
//!                   -> room, purge: what has to go
//! place, owner, schema: the file, who has it, and whether it is ours and whole
//! health: whether it can be written to, and trusted
//! ```

mod builder;
mod error;
mod health;
mod owner;
mod place;
mod purge;
mod queue;
mod readers;
mod room;
mod runs;
mod schema;
mod sql;
mod writer;

use std::{
    error::Error,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{mpsc::UnboundedSender, oneshot};

pub use self::builder::{SqliteStoreBuilder, SqliteSynchronous};
use self::{
    health::Health,
    queue::{ForgetJob, Job, StoreJob},
    readers::Readers,
    runs::{Begun, Found, Freed, Runs},
    sql::Stored,
};
use super::{
    Attempt, Claim, ConnectError, Forgotten, Hold, KeyState, Store, StoreError, StoreKey,
    evictions::Evictions,
};

/// An SQLite blob holds less than 1 GB.
const MAX_RECORD_BYTES: usize = 256 << 20;

/// A store in a single file, for a single process: like `MemoryStore`, but it survives a restart, a
/// crash and a power failure.
///
/// ```no_run
/// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
/// use idempotent_runtime::{Idempotency, SqliteStore};
///
/// let store = SqliteStore::connect("idempotency.db").await?;
/// let idempotency = Idempotency::new(store);
/// # Ok(())
/// # }
/// ```
///
/// SQLite is part of the program: there is no server, and nothing to install. A clone is another
/// handle to the same store. [`builder`](Self::builder) sets how durable it is, and how large it
/// may grow.
///
/// # Guarantees
///
/// - **One process.** It owns the file, by a lock on a file next to it (`idempotency.db-lock`) that
///   the system frees when the process ends, however it does. A second process gets an error from
///   [`connect`](Self::connect) that names the first. So the old and the new process of a restart
///   cannot overlap: let the old one end before the new one starts, or [`close`](Self::close) the
///   store first. Nothing else may write to the file; a shell or a backup may read it.
/// - **Claims cannot be orphaned.** They live in this process, which owns the file: after a crash
///   all keys that were running are free at once. There is no lease, and nothing is renewed.
/// - **Durability.** A record that the store has acknowledged is on disk: SQLite's log (WAL) is
///   synced with each transaction. With [`SqliteSynchronous::Normal`] a power failure can lose the
///   last ones. Keep the file on a local disk, together with the files next to it (`-wal`, `-shm`).
/// - **Permissions.** A new file can be read only by its user, since it contains stored responses.
/// - **Full, hung, locked, corrupt.** Calls fail with an error that says what to do. Stored
///   responses are replayed, but nothing new is claimed until something can be written again,
///   because its response could not be stored; a disk that has not answered for 2 seconds counts as
///   one that cannot be written to. Once corruption has been found, no key counts as absent any
///   more.
/// - **Clock.** Ttls are judged by the machine's clock, since they outlive the process; keep it
///   disciplined (slewed).
///
/// # Cost
///
/// A first request takes one commit, which concurrent requests share; a replay takes one read. A
/// waiting duplicate waits for a signal. Expired records are deleted in the background, and a file
/// that has grown in a flood gives pages back.
///
/// There is no `Tx` here: SQLite has one write lock, which a handler's transaction would keep from
/// all other keys for as long as it runs.
#[derive(Clone)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

/// What the clones of a store share.
struct Inner {
    jobs: UnboundedSender<Job>,
    readers: Readers,
    runs: Arc<Runs>,
    path: PathBuf,
    health: Arc<Health>,
    evictions: Arc<Evictions>,
    max_bytes: Option<u64>,
}

impl SqliteStore {
    /// Opens the file at `path`, creating it if it does not exist: `idempotency.db`,
    /// `/var/lib/shop/idempotency.db`, or the same prefixed with `sqlite:`.
    ///
    /// It reads the whole file once to make sure that it is intact.
    ///
    /// # Errors
    ///
    /// Returns an error if another process has the file, which the message names; if the file
    /// cannot be opened or written to, its disk is full, or its file system cannot lock files or
    /// share memory; if it is not an SQLite database, belongs to another program, was created by
    /// another release in a format that this one cannot read, or is corrupt. The message says what
    /// to do.
    pub async fn connect(path: impl AsRef<Path>) -> Result<Self, ConnectError> {
        Self::builder().connect(path).await
    }

    /// Starts building a store with options.
    pub fn builder() -> SqliteStoreBuilder {
        SqliteStoreBuilder::new()
    }

    /// How many stored responses have been evicted before their ttl passed since the file was
    /// opened; always 0 without [`max_bytes`](SqliteStoreBuilder::max_bytes).
    ///
    /// A retry of such a request runs its handler again.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.inner.evictions.count()
    }

    /// Closes the file once all pending calls are done. From then on another process, or this one,
    /// can open it. Calls on clones fail.
    ///
    /// A store whose last clone is dropped also closes its file, a moment later. Call
    /// [`drain`](crate::Idempotency::drain) first to wait for the handlers.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use idempotent_runtime::SqliteStore;
    ///
    /// # let directory = std::env::temp_dir().join(format!("close-{}", std::process::id()));
    /// # std::fs::create_dir_all(&directory).unwrap();
    /// # let path = directory.join("idempotency.db");
    /// let store = SqliteStore::connect(&path).await.unwrap();
    /// assert!(SqliteStore::connect(&path).await.is_err());
    /// store.close().await;
    /// let again = SqliteStore::connect(&path).await.unwrap();
    /// # again.close().await;
    /// # std::fs::remove_dir_all(&directory).unwrap();
    /// # });
    /// ```
    pub async fn close(self) {
        self.inner.health.close();
        self.inner.readers.close().await;
        let (answer, closed) = oneshot::channel();
        // An error from either side means that it is closed.
        if self.inner.jobs.send(Job::Close(answer)).is_ok() {
            let _ = closed.await;
        }
    }

    /// [`Store::release`] without waiting for its end: if a record is on its way to the disk, that
    /// decides.
    pub(crate) fn release_at_once(&self, attempt: &Attempt) {
        let _ = self.inner.runs.release(attempt);
    }
}

impl Inner {
    /// The record of `key`.
    async fn find(&self, key: StoreKey) -> Result<Option<Stored>, StoreError> {
        let mut reader = self.readers.get().await.map_err(|_| closed())?;
        let found = sql::find(reader.connection(), key).await;
        match found.map_err(|error| self.health.failed(error))? {
            None => self.health.distrust().map_or(Ok(None), Err),
            Some(stored) => {
                self.runs.is_stored(key, stored.token, &stored.record);
                Ok(Some(stored))
            }
        }
    }

    /// Whether a record could be stored, as far as is known.
    fn may_claim(&self) -> Result<(), StoreError> {
        if self.jobs.is_closed() {
            return Err(closed());
        }
        self.health.why_not_claim().map_or(Ok(()), Err)
    }

    /// Gives the writer a job and waits for its answer. The job is done in any case.
    async fn write<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send(job(answer)).map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

impl Store for SqliteStore {
    async fn claim(&self, attempt: &Attempt, _lease: Duration) -> Result<Claim, StoreError> {
        let Inner { runs, .. } = &*self.inner;
        loop {
            let asked = match runs.claim(attempt) {
                Found::Own => return Ok(Claim::Claimed { lease: None }),
                Found::Running(fingerprint) => {
                    let fingerprint = Some(fingerprint);
                    return Ok(Claim::Running { fingerprint, lease_left: None });
                }
                Found::Nobody(asking) => {
                    if let Some(stored) = self.inner.find(attempt.key).await? {
                        return Ok(stored.into());
                    }
                    self.inner.may_claim()?;
                    asking.claim();
                    return Ok(Claim::Claimed { lease: None });
                }
                Found::Asked(asked) => asked,
            };
            // The other caller's result is not shared, but a record can be read by any number.
            if let Some(stored) = self.inner.find(attempt.key).await? {
                return Ok(stored.into());
            }
            asked.await;
        }
    }

    async fn renew(&self, attempt: &Attempt, _lease: Duration) -> Result<Hold, StoreError> {
        Ok(if self.inner.runs.is_held(attempt) { Hold::Held } else { Hold::Lost })
    }

    async fn complete(
        &self,
        attempt: &Attempt,
        record: Bytes,
        ttl: Duration,
    ) -> Result<Hold, StoreError> {
        let Inner { runs, max_bytes, .. } = &*self.inner;
        let is_over = |most| room::weight(record.len() as u64) > most;
        if record.len() > MAX_RECORD_BYTES || max_bytes.is_some_and(is_over) {
            return Err(StoreError::too_large());
        }
        loop {
            match runs.store(attempt, &record) {
                Begun::Now(storing) => {
                    let attempt = attempt.clone();
                    let job = |answer| StoreJob { attempt, record, ttl, storing, answer };
                    self.inner.write(|answer| Job::Store(job(answer))).await?;
                    // Done here so that it appears in the caller's log.
                    self.inner.evictions.tell();
                    return Ok(Hold::Held);
                }
                Begun::Before(ended) => ended.await,
                Begun::NotHeld => {
                    let stored = self.inner.find(attempt.key).await?;
                    let is_own = stored.is_some_and(|stored| stored.token == attempt.token);
                    return Ok(if is_own { Hold::Held } else { Hold::Lost });
                }
            }
        }
    }

    async fn release(&self, attempt: &Attempt) -> Result<(), StoreError> {
        if let Some(ended) = self.inner.runs.release(attempt) {
            ended.await;
        }
        Ok(())
    }

    async fn wait(&self, key: StoreKey, at_most: Duration) {
        if let Some(changed) = self.inner.runs.change(key) {
            // To the caller, a timeout and a change are the same: it looks again.
            let _ = tokio::time::timeout(at_most, changed).await;
        }
    }

    async fn read(&self, key: StoreKey) -> Result<KeyState, StoreError> {
        if let Some(fingerprint) = self.inner.runs.running(key) {
            return Ok(KeyState::Running { fingerprint: Some(fingerprint), lease_left: None });
        }
        let stored = self.inner.find(key).await?;
        Ok(stored.map_or(KeyState::Absent, KeyState::from))
    }

    async fn forget(&self, key: StoreKey, even_if_running: bool) -> Result<Forgotten, StoreError> {
        loop {
            match self.inner.runs.free(key, even_if_running) {
                Freed::Yes => return Ok(Forgotten::Freed),
                Freed::StillRunning => return Ok(Forgotten::StillRunning { lease_left: None }),
                Freed::Storing(ended) => ended.await,
                Freed::Nobody => {
                    let forget = |answer| Job::Forget(ForgetJob { key, answer });
                    let was_there = self.inner.write(forget).await?;
                    return Ok(if was_there { Forgotten::Freed } else { Forgotten::Absent });
                }
            }
        }
    }
}

/// The error of calls on a closed store.
fn closed() -> StoreError {
    StoreError::not_sent(Closed)
}

#[derive(Debug)]
struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the `SqliteStore` is closed")
    }
}

impl Error for Closed {}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.inner.path)
            .field("max_bytes", &self.inner.max_bytes)
            .field("evicted", &self.evicted())
            .finish_non_exhaustive()
    }
}
