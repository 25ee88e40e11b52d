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

/// A blob of SQLite holds less than 1 GB.
const MAX_RECORD_BYTES: usize = 256 << 20;

/// A store in one file, for one process: what `MemoryStore` is, and it survives a restart, a
/// crash and a loss of power.
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
/// handle to the same store. [`builder`](Self::builder) sets how durable it is, and how large it may
/// become.
///
/// # What it guarantees
///
/// - **One process.** It owns the file, by the lock of a file beside it (`idempotency.db-lock`) that
///   the system frees when the process ends, however it does. A second process gets an error from
///   [`connect`](Self::connect) that names the first. So the old and the new process of a restart
///   cannot overlap: let the old one end before the new one starts, or [`close`](Self::close) the
///   store first. Nothing else may write to the file; a shell or a backup may read it.
/// - **Claims cannot be orphaned.** They live in this process, which owns the file: after a crash all
///   keys that were running are free at once. There is no lease, and nothing is renewed.
/// - **Durability.** A record that the store has acknowledged is on disk: SQLite's log (WAL) is synced
///   with each transaction. With [`SqliteSynchronous::Normal`] a loss of power can lose the last ones.
///   Keep the file on a local disk, and keep the files beside it with it (`-wal`, `-shm`).
/// - **Rights.** A new file can be read by its user alone: it holds stored responses.
/// - **Full, hung, locked, damaged.** Calls fail with an error that says what to do. What is stored is
///   replayed, and nothing new is claimed until something can be written again, because its response
///   could not be stored; a disk that has not answered for 2 seconds counts as one that cannot. Once
///   damage was met, no key counts as absent any more.
/// - **Clock.** A ttl is judged by the machine's clock, since it outlives the process; keep it
///   disciplined (slewed).
///
/// # What it costs
///
/// A first request takes one commit, which concurrent requests share; a replay one read. A waiting
/// duplicate waits for a signal. Expired records are deleted in the background, and a file that a
/// flood has left large gives pages back.
///
/// There is no `Tx` here: SQLite has one write lock, which a transaction of a handler
/// would keep from all other keys for as long as it runs.
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
    /// Opens the file at `path`, and makes it if there is none: `idempotency.db`,
    /// `/var/lib/shop/idempotency.db`, or the same behind `sqlite:`.
    ///
    /// It reads all of the file once, to make sure that it is whole.
    ///
    /// # Errors
    ///
    /// Returns an error if another process has the file, which the message names; if it cannot be
    /// opened or written to, its disk is full, or cannot lock files or share memory; if it is not a
    /// SQLite database, is another program's, was made by another release that this one cannot read,
    /// or is damaged. The message says what to do.
    pub async fn connect(path: impl AsRef<Path>) -> Result<Self, ConnectError> {
        Self::builder().connect(path).await
    }

    /// A store with options.
    pub fn builder() -> SqliteStoreBuilder {
        SqliteStoreBuilder::new()
    }

    /// How many stored responses were evicted before their ttl passed, since the file was opened;
    /// always 0 without [`max_bytes`](SqliteStoreBuilder::max_bytes).
    ///
    /// A retry of such a request runs its handler again.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.inner.evictions.count()
    }

    /// Closes the file, once what was asked for is done. Another process, or this one, can open it
    /// from then on. Calls of clones fail.
    ///
    /// A store that is dropped with its last clone closes its file as well, a moment later. Before
    /// this, [`drain`](crate::Idempotency::drain) waits for the handlers.
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
        // An error on either way says that it is closed.
        if self.inner.jobs.send(Job::Close(answer)).is_ok() {
            let _ = closed.await;
        }
    }

    /// [`Store::release`] without its end: a record that is on its way to the disk decides.
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

    /// Gives the writer a job, and waits for its answer. The job is done in any case.
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
            // What the other one finds is not told, and a record can be read by many.
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
                    // Here, so that it is said in the caller's log.
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
            // An elapsed wait and an end are the same to the caller: it looks again.
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

/// What calls get whose store is closed.
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
