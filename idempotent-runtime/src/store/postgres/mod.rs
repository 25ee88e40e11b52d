//! [`PostgresStore`]: many instances, one PostgreSQL.
//!
//! One row a key. A verb is one statement, so its atomicity is the server's; what looks like a
//! check before an act is repeated by the server on the newest version of the locked row.

mod builder;
mod connection;
mod error;
mod migrate;
mod purge;
mod sql;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use sqlx::{PgConnection, PgPool};

pub use self::{builder::PostgresStoreBuilder, purge::PurgeTask};
use self::{connection::Connection, migrate::Table, sql::Statements};
use super::{BoxFuture, Claim, Store, StoreError, Token, poll::Pollers};
use crate::digest::{Fingerprint, StoreKey};

/// How often a claim may find that another one came first and ended at once.
const CLAIM_TRIES: usize = 16;
/// How often a verb may meet another transaction, beside all dead connections.
const PASSING_TRIES: u32 = 8;
/// A field of PostgreSQL holds less than 1 GiB, and a literal is twice as long as its bytes.
const MAX_RECORD_BYTES: usize = 256 << 20;

/// A store in PostgreSQL, for any number of instances.
///
/// ```no_run
/// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use idempotent_runtime::{Idempotency, PostgresStore};
///
/// let store = PostgresStore::connect("postgres://app@db.example/app").await?;
/// store.migrate().await?;
/// store.purge_expired(Duration::from_secs(60)).detach();
/// let idempotency = Idempotency::new(store);
/// # Ok(())
/// # }
/// ```
///
/// A clone is another handle to the same store. [`builder`](Self::builder) sets the schema, the
/// table, and what a connection pooler needs.
///
/// # What it guarantees
///
/// - **Atomicity.** Every verb is one statement and one round trip (two where a connection prepares
///   it for the first time); the server's row lock decides who claims. Nothing rests on advisory
///   locks or on state of a session. A verb is judged by the clock of the server
///   (`clock_timestamp()`), never by that of an instance.
/// - **Durability.** A claim or a record that the store acknowledged is as durable as a commit is on
///   your server. With `fsync` and `synchronous_commit` on, which are PostgreSQL's defaults, it
///   survives a crash of server and machine. With `synchronous_commit = off` a crash can lose
///   what was acknowledged in the last instants (by default up to 0.6 s): a handler whose record is
///   lost runs again for a retry.
/// - **Failover.** A standby that replicates asynchronously lacks the last commits when it is
///   promoted, with the same consequence. Where that must not happen, replicate synchronously
///   (`synchronous_standby_names`, and `synchronous_commit = on` or above).
/// - **Replicas.** The store needs the primary. [`connect`](Self::connect) refuses a server that is
///   read-only; a connection whose server turns read-only is dropped with the error, so that the
///   pool moves on to the new primary.
/// - **Clock.** A step of the server's clock forward ends leases and ttls early; keep it
///   disciplined (slewed), also across a failover.
///
/// # What it costs
///
/// A first request takes two commits, one to claim and one to store. A replay takes one read: no
/// row lock, no transaction id, no WAL. A waiting duplicate polls with a primary-key lookup, one
/// poll a key and process. Expired rows are never shown, but they are deleted only by
/// [`purge_expired`](Self::purge_expired).
///
/// Calls that a caller abandons leave their connection behind in a known state, and connections
/// that a restart of the server broke are replaced: a call that meets one is made again on another.
#[derive(Clone)]
pub struct PostgresStore {
    inner: Arc<Inner>,
}

struct Inner {
    pool: PgPool,
    table: Table,
    statements: Statements,
    pollers: Pollers,
}

impl PostgresStore {
    /// Connects to the server at `url`, as `postgres://user:password@host:port/database`.
    ///
    /// It makes one connection at once, so that a service with a wrong URL or a server that is down
    /// ends at its start; the pool opens the others when they are needed. `sslmode`, `sslrootcert`,
    /// `application_name` and the other parameters of a PostgreSQL URL are understood.
    ///
    /// # Errors
    ///
    /// The URL is malformed; the server refuses, or does not answer within
    /// [2 seconds](PostgresStoreBuilder::connect_timeout); it is read-only; a pooler stands in
    /// between ([`transaction_pooler`](PostgresStoreBuilder::transaction_pooler)). The message says
    /// which.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::builder().connect(url).await
    }

    /// A store on connections of `pool`, in the default schema and table.
    ///
    /// Connections are best made with `test_before_acquire(false)`, which spares a round trip a
    /// call: the store itself repeats a call that met a dead connection. Behind a transaction pooler
    /// use [`builder`](Self::builder).
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self::builder().build_on(pool, Table::default())
    }

    /// A store with options.
    pub fn builder() -> PostgresStoreBuilder {
        PostgresStoreBuilder::new()
    }

    /// Makes the table, unless it is there.
    ///
    /// Any number of instances may call it at once: an advisory lock of the transaction lets one of
    /// them do it. Where the table exists, the role needs no right to create anything.
    /// [`migration`](Self::migration) is the same as text, for a migration tool.
    ///
    /// # Errors
    ///
    /// The server cannot be asked, the role may not create the table, or a table of that name is
    /// there that was not made by this store.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let mut connection = self.connection().await?;
        let migrated = self.inner.table.migrate(&mut connection).await;
        connection.settle(migrated.as_ref().err());
        match migrated {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.inner.table.is_foreign()),
            Err(error) => Err(self.describe(error)),
        }
    }

    /// The SQL that makes the table, as [`migrate`](Self::migrate) runs it.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use idempotent_runtime::PostgresStore;
    /// use sqlx::PgPool;
    ///
    /// let store = PostgresStore::new(PgPool::connect_lazy("postgres://localhost").unwrap());
    /// assert!(store.migration().contains(r#"CREATE TABLE "public"."idempotency_keys""#));
    /// # });
    /// ```
    #[must_use]
    pub fn migration(&self) -> String {
        self.inner.table.migration()
    }

    /// Deletes expired rows, now and then `every` so often, until the task or the store is gone.
    ///
    /// It deletes in batches of 500 rows, each a transaction of its own, and passes over rows that
    /// another instance is deleting; so every instance may run it. A failure is logged and tried
    /// again at the next turn.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub fn purge_expired(&self, every: Duration) -> PurgeTask {
        PurgeTask::spawn(Arc::downgrade(&self.inner), every)
    }

    async fn connection(&self) -> Result<Connection, StoreError> {
        self.inner.connection().await.map_err(|error| self.describe(error))
    }

    fn describe(&self, error: sqlx::Error) -> StoreError {
        error::describe(error, &self.inner.table)
    }

    async fn run<T>(&self, verb: impl Verb<T>) -> Result<T, StoreError> {
        self.inner.run(verb).await.map_err(|error| self.describe(error))
    }
}

/// A verb, to be run on whichever connection is at hand, perhaps more than once.
trait Verb<T>:
    for<'c> Fn(&'c Statements, &'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>
    + Send
    + Sync
{
}

impl<T, F> Verb<T> for F where
    F: for<'c> Fn(&'c Statements, &'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>
        + Send
        + Sync
{
}

impl Inner {
    async fn connection(&self) -> Result<Connection, sqlx::Error> {
        Ok(Connection::new(self.pool.acquire().await?))
    }

    /// Runs `verb`; again where the connection it had turns out to be dead.
    ///
    /// After a restart of the server all pooled connections may be dead, hence the bound. Every
    /// verb may be repeated, so it does not matter whether the server got to run it.
    async fn run<T>(&self, verb: impl Verb<T>) -> Result<T, sqlx::Error> {
        let mut tries_left =
            self.pool.options().get_max_connections().saturating_add(PASSING_TRIES);
        loop {
            let mut connection = self.connection().await?;
            let result = verb(&self.statements, &mut connection).await;
            connection.settle(result.as_ref().err());
            match result {
                Err(error) if tries_left > 0 && error::is_passing(&error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "a statement failed for a passing reason, trying again"
                    );
                    tries_left -= 1;
                }
                result => return result,
            }
        }
    }
}

impl Store for PostgresStore {
    async fn claim(
        &self,
        key: StoreKey,
        fingerprint: Fingerprint,
        token: Token,
        lease: Duration,
    ) -> Result<Claim, StoreError> {
        for _ in 0..CLAIM_TRIES {
            let claim = self.run(move |statements: &Statements, connection| {
                Box::pin(statements.claim(connection, key, fingerprint, token, lease))
            });
            if let Some(claim) = claim.await? {
                return Ok(claim);
            }
        }
        Err(StoreError::new("the key changed hands faster than it could be read"))
    }

    async fn renew(
        &self,
        key: StoreKey,
        token: Token,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        let renew = self.run(move |statements: &Statements, connection| {
            Box::pin(statements.renew(connection, key, token, lease))
        });
        renew.await
    }

    async fn complete(
        &self,
        key: StoreKey,
        token: Token,
        record: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        if record.len() > MAX_RECORD_BYTES {
            return Err(StoreError::too_large());
        }
        let complete = self.run(move |statements: &Statements, connection| {
            Box::pin(statements.complete(connection, key, token, record.clone(), ttl))
        });
        complete.await
    }

    async fn release(&self, key: StoreKey, token: Token) -> Result<(), StoreError> {
        let release = self.run(move |statements: &Statements, connection| {
            Box::pin(statements.release(connection, key, token))
        });
        release.await
    }

    async fn wait(&self, key: StoreKey, _attempt: u32, at_most: Duration) {
        let is_running = || async {
            let is_running = self.inner.run(move |statements: &Statements, connection| {
                Box::pin(statements.is_running(connection, key))
            });
            // The claim that follows tells the caller what is wrong.
            is_running.await.unwrap_or(false)
        };
        self.inner.pollers.wait(key, at_most, is_running).await;
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("table", &self.inner.table).finish_non_exhaustive()
    }
}
