//! The options of a [`SqliteStore`], and opening its file.

use std::{path::Path, sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions as _, Error, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteSynchronous as Pragma},
};

use super::{
    Inner, SqliteStore,
    health::Health,
    owner::Owner,
    place::Place,
    readers::{READERS, Readers},
    room::Room,
    runs::Runs,
    schema,
    writer::Writer,
};
use crate::store::{ConnectError, evictions::Evictions};

/// How long a transaction waits for another program's.
const BUSY_TIMEOUT: Duration = Duration::from_millis(1500);
const MIN_MAX_BYTES: u64 = 64 << 10;
/// The size of the log once its pages are in the file.
const LOG_BYTES: &str = "16777216";

/// What an acknowledged record survives.
///
/// ```
/// use idempotent_runtime::SqliteSynchronous;
///
/// assert_eq!(SqliteSynchronous::default(), SqliteSynchronous::Full);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SqliteSynchronous {
    /// The end of the process and a power failure: each transaction waits for the disk.
    #[default]
    Full,
    /// The end of the process. A power failure or a system crash can lose the records of the last
    /// transactions, whose requests then run again if they are retried; the file stays intact.
    Normal,
}

/// Builds a [`SqliteStore`].
///
/// ```no_run
/// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
/// use idempotent_runtime::SqliteStore;
///
/// let store = SqliteStore::builder().max_bytes(1 << 30).connect("idempotency.db").await?;
/// assert_eq!(store.evicted(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "call `connect`"]
pub struct SqliteStoreBuilder {
    synchronous: SqliteSynchronous,
    max_bytes: Option<u64>,
    has_to_be_whole: bool,
}

impl SqliteStoreBuilder {
    pub(super) fn new() -> Self {
        let synchronous = SqliteSynchronous::default();
        Self { synchronous, max_bytes: None, has_to_be_whole: true }
    }

    /// What an acknowledged record survives. Default: [`SqliteSynchronous::Full`].
    pub fn synchronous(mut self, synchronous: SqliteSynchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// How many bytes the stored responses may take, bookkeeping included. Default: no limit;
    /// values below 64 KiB count as 64 KiB.
    ///
    /// Beyond that the oldest ones are evicted, counted in [`evicted`](SqliteStore::evicted) and
    /// logged at `warn`: a retry of such a request runs its handler again. The file takes up a
    /// little more, and next to it SQLite keeps a log of a few megabytes. With a limit, opening the
    /// file scans all of its contents.
    pub fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = Some(max_bytes.max(MIN_MAX_BYTES));
        self
    }

    /// Whether opening the file reads all of it to make sure that it is intact. Default: yes.
    ///
    /// Corruption makes stored responses disappear, and their requests run again. Without the check
    /// it is noticed only when a call comes across it. The check takes some seconds for a file of a
    /// gigabyte.
    pub fn check_on_open(mut self, check: bool) -> Self {
        self.has_to_be_whole = check;
        self
    }

    /// Opens the file at `path`, as [`SqliteStore::connect`] does.
    ///
    /// # Errors
    ///
    /// Returns an error if [`SqliteStore::connect`] would.
    pub async fn connect(self, path: impl AsRef<Path>) -> Result<SqliteStore, ConnectError> {
        let place = Place::named(path.as_ref())?;
        let owner = Owner::take(place.path())?;
        place.create()?;
        let failed = |error: Error| place.not_opened(error);

        let mut connection = self.options(&place).connect().await.map_err(failed)?;
        schema::prepare(&mut connection, &place, self.has_to_be_whole).await?;
        let room = match self.max_bytes {
            Some(max_bytes) => Some(Room::of(&mut connection, max_bytes).await.map_err(failed)?),
            None => None,
        };
        let mut readers = Vec::new();
        for _ in 0..READERS {
            readers.push(self.reader(&place).await.map_err(failed)?);
        }
        let health = Arc::new(Health::of(place.path()));
        let evictions = Arc::new(Evictions::of("SqliteStore"));
        let writer = Writer {
            connection,
            health: Arc::clone(&health),
            evictions: Arc::clone(&evictions),
            room,
            owner,
        };
        let inner = Inner {
            jobs: writer.start(&place)?,
            readers: Readers::new(readers),
            runs: Arc::<Runs>::default(),
            path: place.path().to_owned(),
            health,
            evictions,
            max_bytes: self.max_bytes,
        };
        Ok(SqliteStore { inner: Arc::new(inner) })
    }

    fn options(&self, place: &Place) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(place.path())
            .create_if_missing(true)
            .busy_timeout(BUSY_TIMEOUT)
            .synchronous(match self.synchronous {
                SqliteSynchronous::Full => Pragma::Full,
                SqliteSynchronous::Normal => Pragma::Normal,
            })
            .pragma("journal_size_limit", LOG_BYTES)
            // Corrupt pages are noticed when they are read.
            .pragma("cell_size_check", "ON")
            .disable_statement_logging()
            .thread_name(|number| format!("sqlite-{number}"))
    }

    async fn reader(&self, place: &Place) -> Result<SqliteConnection, Error> {
        self.options(place).create_if_missing(false).read_only(true).connect().await
    }
}
