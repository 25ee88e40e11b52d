//! [`PostgresStore`]: many instances, one PostgreSQL.
//!
//! One row a key. A verb is one statement, so its atomicity is the server's; what looks like a
//! check before an act is repeated by the server on the newest version of the locked row.
//!
//! ```text
//! verb -> run: a statement, again if its connection is dead
//!          -> connections: the store's own; who gets which, and when another is opened
//!              -> source: how one is opened (a URL's options, or those that a pool has by then)
//!              -> connection: one for one call, and in which state it comes back
//! ```

mod builder;
mod connection;
mod connections;
mod error;
mod migrate;
mod purge;
mod rights;
mod run;
mod source;
mod sql;
mod statement;
mod transaction;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use sqlx::PgPool;

pub use self::{builder::PostgresStoreBuilder, purge::PurgeTask};
use self::{connections::Purpose, migrate::Table, run::Inner};
pub(crate) use self::{
    error::is_passing_in_transaction,
    transaction::{Begun, Failure, Fate, Isolation, Slot, Taken, Transaction, Wanted},
};
use super::{Attempt, Claim, ConnectError, Forgotten, Hold, KeyState, Store, StoreError, StoreKey};

/// How often a verb may find that the row was changed while it looked at it.
const LOOKS: usize = 16;
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
/// - **Atomicity.** Every verb is one statement and one round trip (two if a connection prepares it
///   for the first time); the server's row lock decides who claims. Nothing rests on state of a
///   session, and of advisory locks only that nobody waits for the row of a [`Tx`](crate::Tx). A verb is judged by the clock of the server
///   (`clock_timestamp()`), never by that of an instance.
/// - **Durability.** A claim or a record that the store acknowledged is as durable as a commit is on
///   your server. With `fsync` and `synchronous_commit` on, which are PostgreSQL's defaults, it
///   survives a crash of server and machine. With `synchronous_commit = off` a crash can lose
///   what was acknowledged in the last instants (by default up to 0.6 s): a handler whose record is
///   lost runs again for a retry.
/// - **Failover.** A standby that replicates asynchronously lacks the last commits when it is
///   promoted, with the same consequence. If that must not happen, replicate synchronously
///   (`synchronous_standby_names`, and `synchronous_commit = on` or above).
/// - **Replicas.** The store needs the primary. [`connect`](Self::connect) refuses a server that is
///   read-only; a connection whose server turns read-only is dropped with the error, so that the
///   store moves on to the new primary.
/// - **Outages.** The store's connections are its own, so that handlers that use all of a pool's
///   keep no claim from being renewed, and renewals and completions do not queue behind claims. They
///   are opened in the background, whoever waits for them: when the server is back, so is the store,
///   under full traffic and if connecting is slow. The server sees at most
///   [`max_connections`](PostgresStoreBuilder::max_connections) and
///   [`max_transactions`](PostgresStoreBuilder::max_transactions), plus those whose end it has not
///   noticed yet; [`statement_timeout`](PostgresStoreBuilder::statement_timeout) bounds for how long
///   a lock or a standby can keep it from that.
/// - **Clock.** A step of the server's clock forward ends leases and ttls early; keep it
///   disciplined (slewed), also across a failover.
///
/// # What it costs
///
/// A first request takes two commits, one to claim and one to store; with a [`Tx`](crate::Tx) they are
/// the handler's own. A replay takes one read: no
/// row lock, no transaction id, no WAL. A waiting duplicate polls with a primary-key lookup, one
/// poll a key and process. Expired rows are never shown, but they are deleted only by
/// [`purge_expired`](Self::purge_expired).
///
/// Calls that a caller abandons leave their connection behind in a known state, and connections
/// that are dead, after a restart of the server or an `idle_session_timeout`, are replaced: a call
/// that meets one is made again on another.
#[derive(Clone)]
pub struct PostgresStore {
    inner: Arc<Inner>,
}

impl PostgresStore {
    /// Connects to the server at `url`, as `postgres://user:password@host:port/database`.
    ///
    /// It makes one connection at once, so that a service with a wrong URL or a server that is down
    /// ends at its start, and opens those of the store when they are needed. `sslmode`, `sslrootcert`,
    /// `application_name` and the other parameters of a PostgreSQL URL are understood.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL is not valid, the server refuses, does not answer within
    /// [2 seconds](PostgresStoreBuilder::connect_timeout) or is read-only, a pooler stands in
    /// between ([`transaction_pooler`](PostgresStoreBuilder::transaction_pooler)), or the table is
    /// there and the role may not use it as [`migrate`](Self::migrate) says. The message says which.
    pub async fn connect(url: impl AsRef<str>) -> Result<Self, ConnectError> {
        Self::builder().connect(url).await
    }

    /// A store that connects as `pool` does, in the default schema and table.
    ///
    /// It takes no connection of `pool`: handlers that use all of them would keep claims from being
    /// renewed. The store has [10 of its own](PostgresStoreBuilder::max_connections), and each is
    /// made with the options that `pool` has by then (`PgPool::set_connect_options` rotates
    /// credentials) and its `after_connect`. Other settings of `pool` play no part. Behind a pooler
    /// use [`builder`](Self::builder).
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self::builder().build_as(pool, Table::default())
    }

    /// A store with options.
    pub fn builder() -> PostgresStoreBuilder {
        PostgresStoreBuilder::new()
    }

    /// Makes the table, unless it is there; then it adds the columns that one of an earlier release
    /// lacks, and tries out whether the role may do there what the verbs do, with a row that it rolls
    /// back. Rows are kept, and instances of that release go on with the table.
    ///
    /// Any number of instances may call it at once: an advisory lock of the transaction lets one of
    /// them do it. If the table exists and is up to date, the role needs no right to create anything.
    /// [`schema_sql`](Self::schema_sql) is the same as text, for a migration tool.
    ///
    /// # Errors
    ///
    /// Returns an error if the server cannot be asked, the role may not create the table, or a
    /// table of that name is there that was not made by this store, or in which the role may not do
    /// what the verbs do: SELECT, INSERT, UPDATE and DELETE, also under row policies. The message
    /// names what is missing.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let connection = self.inner.connections.get(Purpose::Ask).await;
        let mut connection = connection.map_err(StoreError::not_sent)?;
        connection.close_unless_settled();
        let migrated = self.inner.table.migrate(&mut connection).await;
        connection.settle(migrated.as_ref().err());
        migrated.map_err(|error| self.inner.describe(error))?.into_result(&self.inner.table)
    }

    /// The SQL that makes the table, as [`migrate`](Self::migrate) runs it.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use idempotent_runtime::PostgresStore;
    /// use sqlx::PgPool;
    ///
    /// let store = PostgresStore::new(PgPool::connect_lazy("postgres://localhost").unwrap());
    /// assert!(store.schema_sql().contains(r#"CREATE TABLE "public"."idempotency_keys""#));
    /// # });
    /// ```
    #[must_use]
    pub fn schema_sql(&self) -> String {
        self.inner.table.schema_sql()
    }

    /// How long the server works on a verb at most, if the store says so. A longer `store_timeout`
    /// would be a limit that never applies.
    pub(crate) fn statement_timeout(&self) -> Option<Duration> {
        self.inner.statement_timeout
    }

    /// Deletes expired rows, now and then `every` so often, until the task or the store is gone.
    ///
    /// It deletes in batches of 500 rows, each a transaction of its own, and passes over rows that
    /// another instance is deleting; so every instance may run it. No live row is deleted, also of a
    /// table that is partitioned or inherited from. `statement_timeout` does not apply. A failure is logged and tried
    /// again at the next turn.
    ///
    /// # Panics
    ///
    /// Panics if it is called outside a Tokio runtime.
    pub fn purge_expired(&self, every: Duration) -> PurgeTask {
        PurgeTask::spawn(Arc::downgrade(&self.inner), every)
    }
}

impl Store for PostgresStore {
    async fn claim(&self, attempt: &Attempt, lease: Duration) -> Result<Claim, StoreError> {
        let statement = self.inner.statements.claim(attempt, lease);
        for _ in 0..LOOKS {
            let row = self.inner.run(Purpose::Ask, &statement).await?;
            let claim = sql::found_by_claim(row.as_ref(), lease);
            if let Some(claim) = claim.map_err(|error| self.inner.describe(error))? {
                return Ok(claim);
            }
        }
        Err(contended())
    }

    async fn renew(&self, attempt: &Attempt, lease: Duration) -> Result<Hold, StoreError> {
        let row =
            self.inner.run(Purpose::Hold, &self.inner.statements.renew(attempt, lease)).await?;
        Ok(row.map_or(Hold::Lost, |_| Hold::Held))
    }

    async fn complete(
        &self,
        attempt: &Attempt,
        record: Bytes,
        ttl: Duration,
    ) -> Result<Hold, StoreError> {
        if record.len() > MAX_RECORD_BYTES {
            return Err(StoreError::too_large());
        }
        let row = self
            .inner
            .run(Purpose::Hold, &self.inner.statements.complete(attempt, &record, ttl))
            .await?;
        Ok(row.map_or(Hold::Lost, |_| Hold::Held))
    }

    async fn release(&self, attempt: &Attempt) -> Result<(), StoreError> {
        self.inner.run(Purpose::Hold, &self.inner.statements.release(attempt)).await?;
        Ok(())
    }

    async fn wait(&self, key: StoreKey, at_most: Duration) {
        let is_running = || async {
            let row = self.inner.run(Purpose::Ask, &self.inner.statements.is_running(&key)).await;
            // The claim that follows tells the caller what is wrong.
            row.is_ok_and(|row| row.is_some())
        };
        self.inner.pollers.wait(key, at_most, is_running).await;
    }

    async fn read(&self, key: StoreKey) -> Result<KeyState, StoreError> {
        let row = self.inner.run(Purpose::Ask, &self.inner.statements.read(&key)).await?;
        sql::state(row.as_ref()).map_err(|error| self.inner.describe(error))
    }

    async fn forget(&self, key: StoreKey, even_if_running: bool) -> Result<Forgotten, StoreError> {
        let statement = self.inner.statements.forget(&key, even_if_running);
        for _ in 0..LOOKS {
            let row = self.inner.run_once(Purpose::Ask, &statement).await?;
            let forgotten = sql::forgotten(row.as_ref(), even_if_running);
            if let Some(forgotten) = forgotten.map_err(|error| self.inner.describe(error))? {
                return Ok(forgotten);
            }
        }
        Err(contended())
    }
}

fn contended() -> StoreError {
    StoreError::new("the key changed hands faster than it could be read")
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("table", &self.inner.table).finish_non_exhaustive()
    }
}
