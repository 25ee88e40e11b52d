//! [`PostgresStore`]: many instances, one PostgreSQL.
//!
//! One row per key. Each verb is one statement, so the server makes it atomic: what looks like
//! check-then-act is checked again on the newest version of the locked row.
//!
//! ```text
//! verb -> run: runs a statement, again if its connection is dead
//!          -> connections: the store's own; who gets one, and when another is opened
//!              -> source: how one is opened (a URL's options, or the current ones of a pool)
//!              -> connection: one for a single call, and the state in which it is returned
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

/// How often a verb looks at its row if that changes each time.
const LOOKS: usize = 16;
/// A PostgreSQL field holds less than 1 GiB, and a hex literal is twice as long as its bytes.
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
/// - **Atomicity.** Every verb is one statement and one round trip (two the first time on a
///   connection, to prepare it); the server's row lock decides who claims. Nothing depends on
///   session state, and advisory locks only ensure that nobody waits for the row of a
///   [`Tx`](crate::Tx). A verb is judged by the server's clock (`clock_timestamp()`), never by that
///   of an instance.
/// - **Durability.** A claim or record that the store has acknowledged is as durable as a commit on
///   your server. With `fsync` and `synchronous_commit` on, PostgreSQL's defaults, it survives a
///   crash of the server and of the machine. With `synchronous_commit = off` a crash can lose what
///   was acknowledged in the last moments (by default up to 0.6 s): a handler whose record is lost
///   runs again on a retry.
/// - **Failover.** An asynchronous standby lacks the last commits when it is promoted, with the
///   same consequence. To rule that out, replicate synchronously (`synchronous_standby_names`, and
///   `synchronous_commit = on` or above).
/// - **Replicas.** The store needs the primary. [`connect`](Self::connect) refuses a read-only
///   server; a connection whose server turns read-only is dropped with the error, so that the store
///   moves to the new primary.
/// - **Outages.** The store has its own connections: handlers that use up a pool do not keep claims
///   from being renewed, and renewals and completions do not queue behind claims. Connections are
///   opened in the background, no matter who waits for them: once the server is back, so is the
///   store, even under full traffic and if connecting is slow. The server sees at most
///   [`max_connections`](PostgresStoreBuilder::max_connections) plus
///   [`max_transactions`](PostgresStoreBuilder::max_transactions), and those whose end it has not
///   noticed yet; [`statement_timeout`](PostgresStoreBuilder::statement_timeout) bounds how long a
///   lock or a standby can keep it from noticing.
/// - **Clock.** If the server's clock steps forward, leases and ttls end early; keep it disciplined
///   (slewed), also across a failover.
///
/// # What it costs
///
/// A first request takes two commits, one to claim and one to store; with a [`Tx`](crate::Tx) both
/// are part of the handler's. A replay takes one read: no row lock, no transaction id, no WAL. A
/// waiting duplicate polls with a primary-key lookup, one poll per key and process. Expired rows
/// are never shown, but only [`purge_expired`](Self::purge_expired) deletes them.
///
/// Abandoned calls leave their connection in a known state. Dead connections, after a server
/// restart or an `idle_session_timeout`, are replaced: a call that meets one is repeated on
/// another.
#[derive(Clone)]
pub struct PostgresStore {
    inner: Arc<Inner>,
}

impl PostgresStore {
    /// Connects to the server at `url`: `postgres://user:password@host:port/database`.
    ///
    /// It opens one connection right away, so a service with a wrong URL or a server that is down
    /// fails at startup; the others are opened when needed. `sslmode`, `sslrootcert`,
    /// `application_name` and the other parameters of a PostgreSQL URL are understood.
    ///
    /// ```no_run
    /// # async fn connect() -> Result<(), idempotent_runtime::ConnectError> {
    /// use idempotent_runtime::PostgresStore;
    ///
    /// let store = PostgresStore::connect("postgres://user:password@db.example:5432/app").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the URL is invalid; if the server refuses, does not answer within
    /// [2 seconds](PostgresStoreBuilder::connect_timeout) or is read-only; if a pooler is in
    /// between ([`transaction_pooler`](PostgresStoreBuilder::transaction_pooler)); or if the table
    /// exists and the role lacks a permission that [`migrate`](Self::migrate) checks. The message
    /// says which.
    pub async fn connect(url: impl AsRef<str>) -> Result<Self, ConnectError> {
        Self::builder().connect(url).await
    }

    /// A store that connects as `pool` does, with the default schema and table.
    ///
    /// It takes no connection from `pool`: handlers that use all of them would keep claims from
    /// being renewed. The store has [10 of its own](PostgresStoreBuilder::max_connections), each
    /// opened with the options that `pool` has at that time (`PgPool::set_connect_options` rotates
    /// credentials) and its `after_connect`. Other settings of `pool` are ignored. Behind a pooler
    /// use [`builder`](Self::builder).
    ///
    /// ```no_run
    /// # async fn connect() -> Result<(), sqlx::Error> {
    /// use idempotent_runtime::PostgresStore;
    /// use sqlx::PgPool;
    ///
    /// let pool = PgPool::connect("postgres://app@db.example/app").await?;
    /// let store = PostgresStore::new(pool.clone());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self::builder().build_as(pool, Table::default())
    }

    /// Starts building a store with options.
    ///
    /// ```
    /// # use idempotent_runtime::PostgresStore;
    /// let builder = PostgresStore::builder().schema("shop");
    /// assert!(format!("{builder:?}").contains("shop"));
    /// ```
    pub fn builder() -> PostgresStoreBuilder {
        PostgresStoreBuilder::new()
    }

    /// Creates the table, or adds the columns that a table of an earlier release lacks. Rows are
    /// kept, and instances of that release keep working with it.
    ///
    /// If the table exists, this also checks that the role may do what the verbs do, with a row
    /// that it rolls back.
    ///
    /// Any number of instances may call it at once: an advisory lock of the transaction lets one of
    /// them do it. If the table exists and is up to date, the role needs no permission to create
    /// anything. [`schema_sql`](Self::schema_sql) is the same as text, for a migration tool.
    ///
    /// ```no_run
    /// # async fn migrate() -> Result<(), Box<dyn std::error::Error>> {
    /// use idempotent_runtime::PostgresStore;
    ///
    /// let store = PostgresStore::connect("postgres://app@db.example/app").await?;
    /// store.migrate().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the server does not answer, if the role may not create the table, or if
    /// a table of that name exists that this store did not create, or on which the role lacks a
    /// permission that the verbs need: SELECT, INSERT, UPDATE and DELETE, also under row policies.
    /// The message names what is missing.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let connection = self.inner.connections.get(Purpose::Ask).await;
        let mut connection = connection.map_err(StoreError::not_sent)?;
        connection.close_unless_settled();
        let migrated = self.inner.table.migrate(&mut connection).await;
        connection.settle(migrated.as_ref().err());
        migrated.map_err(|error| self.inner.describe(error))?.into_result(&self.inner.table)
    }

    /// The SQL that creates the table, as [`migrate`](Self::migrate) runs it.
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

    /// The store's limit for a verb, if it sets one. A longer `store_timeout` would never apply.
    pub(crate) fn statement_timeout(&self) -> Option<Duration> {
        self.inner.statement_timeout
    }

    /// Deletes expired rows, immediately and then at intervals of `every`, until the task or the
    /// store is dropped.
    ///
    /// It deletes in batches of 500 rows, each in a separate transaction, and skips rows that
    /// another instance is deleting, so every instance may run it. No live row is deleted, even if
    /// the table is partitioned or inherited from. `statement_timeout` does not apply. A failure is
    /// logged and retried after the next interval.
    ///
    /// ```no_run
    /// # async fn start() -> Result<(), idempotent_runtime::ConnectError> {
    /// use std::time::Duration;
    ///
    /// use idempotent_runtime::PostgresStore;
    ///
    /// let store = PostgresStore::connect("postgres://app@db.example/app").await?;
    /// let purging = store.purge_expired(Duration::from_secs(60));
    /// drop(purging); // ends it
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if called outside a Tokio runtime.
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
            // If it fails, the claim that follows shows what is wrong.
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
