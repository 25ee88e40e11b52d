//! Options of a [`PostgresStore`], and its first connection.

use std::{str::FromStr, sync::Arc, time::Duration};

use sqlx::{Connection as _, Error, PgConnection, PgPool, Row as _, postgres::PgConnectOptions};

use super::{
    PostgresStore,
    connections::{Connections, Limits, OPEN_LIMIT},
    error,
    migrate::Table,
    rights::Missing,
    run::Inner,
    source::{Session, Source},
    sql::Statements,
    statement::Protocol,
    transaction::Transactions,
};
use crate::store::{ConnectError, Pollers, cause::Cause};

const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const DEFAULT_ACQUIRE_TIMEOUT: Duration = Duration::from_millis(1500);
const DEFAULT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(3);
const DEFAULT_MAX_CONNECTIONS: u32 = 10;
const DEFAULT_MAX_TRANSACTIONS: u32 = 10;
/// One for calls that ask, and one for those that hold a key.
const LEAST_CONNECTIONS: u32 = 2;
/// How long the server may take to finish an abandoned call if there is no `statement_timeout`.
const ABANDONED_LIMIT: Duration = Duration::from_secs(2);
/// A setting that the first connection sends and then looks up: a pooler loses it.
const DIRECT: &str = "idempotent_axum.direct";

/// Builds a [`PostgresStore`].
///
/// ```no_run
/// # async fn connect() -> Result<(), idempotent_runtime::ConnectError> {
/// use idempotent_runtime::PostgresStore;
///
/// let store = PostgresStore::builder()
///     .schema("shop")
///     .transaction_pooler()
///     .connect("postgres://app@pooler.example:6432/app")
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "call `connect` or `build`"]
pub struct PostgresStoreBuilder {
    schema: String,
    table: String,
    protocol: Protocol,
    connect_timeout: Duration,
    acquire_timeout: Duration,
    statement_timeout: Option<Duration>,
    max_connections: u32,
    max_transactions: u32,
}

impl PostgresStoreBuilder {
    pub(super) fn new() -> Self {
        Self {
            schema: Table::DEFAULT_SCHEMA.to_owned(),
            table: Table::DEFAULT_NAME.to_owned(),
            protocol: Protocol::Extended,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            acquire_timeout: DEFAULT_ACQUIRE_TIMEOUT,
            statement_timeout: Some(DEFAULT_STATEMENT_TIMEOUT),
            max_connections: DEFAULT_MAX_CONNECTIONS,
            max_transactions: DEFAULT_MAX_TRANSACTIONS,
        }
    }

    /// The schema of the table. Default: `public`. `search_path` is ignored.
    ///
    /// 1 to 63 ASCII letters, digits, `_` and `-`, case-sensitive.
    ///
    /// ```
    /// # use idempotent_runtime::PostgresStore;
    /// let builder = PostgresStore::builder().schema("shop");
    /// assert!(format!("{builder:?}").contains("shop"));
    /// ```
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// The name of the table. Default: `idempotency_keys`.
    ///
    /// Services with the same table share keys if the scopes of their handlers are the same.
    ///
    /// 1 to 63 ASCII letters, digits, `_` and `-`, case-sensitive.
    ///
    /// ```
    /// # use idempotent_runtime::PostgresStore;
    /// let builder = PostgresStore::builder().table("shop_keys");
    /// assert!(format!("{builder:?}").contains("shop_keys"));
    /// ```
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = table.into();
        self
    }

    /// For a connection through a pooler: `PgBouncer` in any mode, or a similar one.
    ///
    /// Such a pooler may run each statement in a different session of the server, in which this
    /// client's prepared statements are missing, or are those of *another* client. With this option
    /// a statement is sent as one message, with its arguments as literals, and leaves nothing in
    /// the session. The settings that it needs (`bytea_output` and `statement_timeout`) precede it
    /// in the same message, for this one transaction (`SET LOCAL`). The cost: the server plans
    /// every statement, and records are sent as hex.
    ///
    /// The client then logs no statements, because their text contains the records. If the *server*
    /// logs the text of statements (`log_statement`, `log_min_duration_statement`, failed ones),
    /// its log contains them too.
    ///
    /// Without this option, [`connect`](Self::connect) refuses a pooler.
    ///
    /// ```
    /// # use idempotent_runtime::PostgresStore;
    /// let builder = PostgresStore::builder().transaction_pooler();
    /// assert!(format!("{builder:?}").contains("protocol: Simple"));
    /// ```
    pub fn transaction_pooler(mut self) -> Self {
        self.protocol = Protocol::Simple;
        self
    }

    /// How long [`connect`](Self::connect) may take. Default: 2 seconds.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use idempotent_runtime::PostgresStore;
    /// let builder = PostgresStore::builder().connect_timeout(Duration::from_secs(5));
    /// assert!(format!("{builder:?}").contains("connect_timeout: 5s"));
    /// ```
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a call waits for a connection. Default: 1.5 seconds.
    ///
    /// A call that gets none was certainly not sent, so there is nothing to clean up after it. This
    /// should be shorter than [`Idempotency::store_timeout`](crate::Idempotency::store_timeout),
    /// which cuts off calls that may have been sent. Opening a connection has its own limit of
    /// 5 seconds, and continues after its waiters have gone.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use idempotent_runtime::PostgresStore;
    /// let builder = PostgresStore::builder().acquire_timeout(Duration::from_secs(1));
    /// assert!(format!("{builder:?}").contains("acquire_timeout: 1s"));
    /// ```
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// How long the server may work on a verb: its `statement_timeout`. Default: 3 seconds; zero
    /// leaves it to the server.
    ///
    /// While a statement waits for a lock or a synchronous standby, the server does not notice that
    /// its client has gone. This bounds how many sessions it keeps for abandoned calls. It should
    /// not be shorter than [`Idempotency::store_timeout`](crate::Idempotency::store_timeout), and
    /// need not be much longer.
    ///
    /// It is set for the store's sessions, or behind a [pooler](Self::transaction_pooler) for each
    /// statement (PostgreSQL 11 or later). It applies only to verbs, not to
    /// [`migrate`](PostgresStore::migrate) or [`purge_expired`](PostgresStore::purge_expired).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use idempotent_runtime::PostgresStore;
    /// let builder = PostgresStore::builder().statement_timeout(Duration::ZERO);
    /// assert!(format!("{builder:?}").contains("statement_timeout: None"));
    /// ```
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = (!timeout.is_zero()).then_some(timeout);
        self
    }

    /// The maximum number of connections. Default: 10; at least 2.
    ///
    /// They belong to the store, and are opened when needed. Claims, reads and the polls of waiting
    /// duplicates use at most three quarters of them, so that renewals and completions never queue
    /// behind them. Up to 32 calls of either kind wait for each connection; more fail at once.
    ///
    /// ```
    /// # use idempotent_runtime::PostgresStore;
    /// let builder = PostgresStore::builder().max_connections(20);
    /// assert!(format!("{builder:?}").contains("max_connections: 20"));
    /// ```
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections.max(LEAST_CONNECTIONS);
        self
    }

    /// The maximum number of transactions for handlers that take a [`Tx`](crate::Tx). Default: 10;
    /// at least 1.
    ///
    /// Each has a separate connection, in addition to [`max_connections`](Self::max_connections),
    /// opened when needed, with the same options but without
    /// [`statement_timeout`](Self::statement_timeout). It is in use from the claim to the commit,
    /// so this is also how many such handlers run at once. A request that finds none free within
    /// [`Idempotency::store_timeout`](crate::Idempotency::store_timeout) gets a 503; duplicates of
    /// a running one do not queue for a transaction.
    ///
    /// ```
    /// # use idempotent_runtime::PostgresStore;
    /// let builder = PostgresStore::builder().max_transactions(20);
    /// assert!(format!("{builder:?}").contains("max_transactions: 20"));
    /// ```
    pub fn max_transactions(mut self, transactions: u32) -> Self {
        self.max_transactions = transactions.max(1);
        self
    }

    /// Connects to the server at `url`, as [`PostgresStore::connect`] does.
    ///
    /// ```
    /// # use idempotent_runtime::PostgresStore;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let error = PostgresStore::builder().connect("localhost").await.unwrap_err();
    /// assert!(error.to_string().contains("postgres://user:password@host:5432/database"));
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the schema or table name is invalid, or if [`PostgresStore::connect`]
    /// would.
    pub async fn connect(self, url: impl AsRef<str>) -> Result<PostgresStore, ConnectError> {
        let table = Table::new(&self.schema, &self.table)?;
        let options = Self::options(url.as_ref())?;
        let place = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let unusable =
            |why: &str| ConnectError::new(format!("cannot use PostgreSQL at `{place}`: {why}"));
        let limit = self.connect_timeout;
        let first = match tokio::time::timeout(limit, self.probe(&options, &table)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(Refusal::Error(error))) if error::is_refused_by_pooler(&error) => {
                return Err(unusable(error::POOLER).because(Cause(error)));
            }
            Ok(Err(Refusal::Error(error))) => {
                return Err(ConnectError::unreachable("PostgreSQL", &place).because(Cause(error)));
            }
            Ok(Err(Refusal::Pooler)) => return Err(unusable(error::POOLER)),
            Ok(Err(Refusal::ReadOnly)) => return Err(unusable(error::READ_ONLY_SERVER)),
            Ok(Err(Refusal::Missing(missing))) => {
                let error = unusable(&missing.to_string());
                return Err(match missing.error {
                    Some(refusal) => error.because(Cause(refusal)),
                    None => error,
                });
            }
            Err(elapsed) => {
                return Err(ConnectError::silent("PostgreSQL", &place, limit).because(elapsed));
            }
        };
        let source = |session: Session| Source::Options(Box::new(session.set(options.clone())));
        Ok(self.build_on(source, table, Some(first)))
    }

    /// A store that connects as `pool` does, like [`PostgresStore::new`].
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use idempotent_runtime::PostgresStore;
    /// use sqlx::PgPool;
    ///
    /// let pool = PgPool::connect_lazy("postgres://localhost").unwrap();
    /// let store = PostgresStore::builder().schema("shop").build(pool).unwrap();
    /// assert!(store.schema_sql().contains(r#"CREATE TABLE "shop"."idempotency_keys""#));
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the schema or table name is invalid.
    pub fn build(self, pool: PgPool) -> Result<PostgresStore, ConnectError> {
        let table = Table::new(&self.schema, &self.table)?;
        Ok(self.build_as(pool, table))
    }

    pub(super) fn build_as(self, pool: PgPool, table: Table) -> PostgresStore {
        let source = move |session| Source::pool(pool.clone(), session, OPEN_LIMIT);
        self.build_on(source, table, None)
    }

    fn build_on(
        self,
        source: impl Fn(Session) -> Source,
        table: Table,
        first: Option<PgConnection>,
    ) -> PostgresStore {
        let session = self.session();
        let limits = Limits {
            connections: self.max_connections as usize,
            wait: self.acquire_timeout,
            // By then an abandoned statement has ended.
            abandoned: self.statement_timeout.unwrap_or(ABANDONED_LIMIT),
        };
        let connections = Connections::new(source(session), limits, first);
        // A handler's statements have no limit.
        let unlimited = Session { statement_timeout: None, ..session };
        let limits = Limits { connections: self.max_transactions as usize, ..limits };
        let transactions = Connections::new(source(unlimited), limits, None);
        let name = table.to_string();
        let inner = Inner {
            connections,
            statement_timeout: self.statement_timeout,
            statements: Statements::new(session, &name),
            transactions: Transactions::new(transactions, self.protocol, &name),
            table,
            pollers: Pollers::default(),
        };
        PostgresStore { inner: Arc::new(inner) }
    }

    fn session(&self) -> Session {
        Session { protocol: self.protocol, statement_timeout: self.statement_timeout }
    }

    fn options(url: &str) -> Result<PgConnectOptions, ConnectError> {
        PgConnectOptions::from_str(url).map_err(|error| {
            let message = "the URL of the PostgreSQL server is not valid: it has the form \
                           `postgres://user:password@host:5432/database`";
            ConnectError::new(message).because(Cause(error))
        })
    }

    /// Opens the first connection, and checks that the store can work with its server.
    async fn probe(
        &self,
        options: &PgConnectOptions,
        table: &Table,
    ) -> Result<PgConnection, Refusal> {
        let options = self.session().set(options.clone());
        let options = match self.protocol {
            Protocol::Extended => options.options([(DIRECT, "on")]),
            Protocol::Simple => options,
        };
        let mut connection = PgConnection::connect_with(&options).await?;
        let row = sqlx::raw_sql(
            "SELECT current_setting('idempotent_axum.direct', true) = 'on',
                current_setting('transaction_read_only') = 'on'",
        )
        .fetch_one(&mut connection)
        .await?;
        let is_direct: Option<bool> = row.try_get(0)?;
        let is_read_only: bool = row.try_get(1)?;
        if self.protocol == Protocol::Extended && is_direct != Some(true) {
            return Err(Refusal::Pooler);
        }
        if is_read_only {
            return Err(Refusal::ReadOnly);
        }
        if let Some(missing) = table.missing_right(&mut connection).await? {
            return Err(Refusal::Missing(missing));
        }
        Ok(connection)
    }
}

enum Refusal {
    Error(Error),
    Pooler,
    ReadOnly,
    Missing(Missing),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}
