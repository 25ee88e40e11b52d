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
/// How long a server may take to finish what a caller has abandoned, if no `statement_timeout` says.
const ABANDONED_LIMIT: Duration = Duration::from_secs(2);
/// A setting that the first connection makes and looks for: a pooler loses it.
const DIRECT: &str = "idempotent_axum.direct";

/// Builds a [`PostgresStore`].
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

    /// The schema of the table. Default: `public`. `search_path` plays no part.
    ///
    /// 1 to 63 ASCII letters, digits, `_` and `-`, case-sensitive.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// The table. Default: `idempotency_keys`. Services that share a table share the keys of scopes
    /// with the same name.
    ///
    /// 1 to 63 ASCII letters, digits, `_` and `-`, case-sensitive.
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = table.into();
        self
    }

    /// For a connection that leads through a pooler: `PgBouncer`, in whichever mode, and its like.
    ///
    /// Such a pooler may run every statement in another session of the server, where the prepared
    /// statements of this client are missing, or are those of *another* client. With this option a
    /// statement is sent in one message, with its arguments as literals, and leaves nothing in the
    /// session: what it needs of the session's settings (`bytea_output`, and `statement_timeout`)
    /// precedes it in the same message, for this one transaction (`SET LOCAL`). It costs the server a
    /// plan for every statement, and a record is sent as hex.
    /// Statements are not logged by the client then, because their text contains the records. If the
    /// *server* logs the text of statements (`log_statement`, `log_min_duration_statement`, failed
    /// ones), its log contains them too.
    ///
    /// Without this option, [`connect`](Self::connect) refuses a pooler.
    pub fn transaction_pooler(mut self) -> Self {
        self.protocol = Protocol::Simple;
        self
    }

    /// How long [`connect`](Self::connect) tries. Default: 2 seconds.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a call waits for a connection. Default: 1.5 seconds.
    ///
    /// If it gets none, it was certainly not sent, and nothing is left to be cleaned up after it.
    /// So this should be shorter than
    /// [`Idempotency::store_timeout`](crate::Idempotency::store_timeout), which cuts off a call of
    /// which that is not known. Opening a connection is not bound by it: that goes on, with a limit
    /// of its own of 5 seconds, when those who wait for it have gone.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// How long the server works on a verb at most: its `statement_timeout`. Default: 3 seconds;
    /// zero leaves it to the server.
    ///
    /// A server does not notice that a client has gone while a statement waits, for a lock or a
    /// synchronous standby. This bounds how many sessions it keeps for calls that were given up. It
    /// should not be shorter than [`Idempotency::store_timeout`](crate::Idempotency::store_timeout),
    /// and need not be much longer.
    ///
    /// It is set in the store's sessions, and behind a
    /// [pooler](Self::transaction_pooler) for each statement (PostgreSQL 11 or later). It binds the
    /// verbs alone, neither [`migrate`](PostgresStore::migrate) nor
    /// [`purge_expired`](PostgresStore::purge_expired).
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = (!timeout.is_zero()).then_some(timeout);
        self
    }

    /// The most connections of the store. Default: 10; at least 2.
    ///
    /// They are the store's own, and opened when they are needed. Claims, reads and the polls of
    /// waiting duplicates use three quarters of them at most, so that renewals and completions never
    /// queue behind them. Up to 32 calls of either kind wait for each connection; more fail at once.
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections.max(LEAST_CONNECTIONS);
        self
    }

    /// The most transactions of handlers that take a [`Tx`](crate::Tx). Default: 10; at least 1.
    ///
    /// Each is on a connection of its own, beside the [`max_connections`](Self::max_connections),
    /// opened when it is needed, with the same options but without
    /// [`statement_timeout`](Self::statement_timeout). It is in use from the claim to the commit, so
    /// this is also how many such handlers run at once. A request that finds none free within
    /// [`Idempotency::store_timeout`](crate::Idempotency::store_timeout) gets 503; duplicates of a
    /// running one do not stand in that queue.
    pub fn max_transactions(mut self, transactions: u32) -> Self {
        self.max_transactions = transactions.max(1);
        self
    }

    /// Connects to the server at `url`.
    ///
    /// # Errors
    ///
    /// Returns an error if a name is not valid, or [`PostgresStore::connect`] would.
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

    /// A store that connects as `pool` does, as [`PostgresStore::new`] has it.
    ///
    /// # Errors
    ///
    /// Returns an error if the name of schema or table is not valid.
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
            // Whatever was begun before it was abandoned has ended by then.
            abandoned: self.statement_timeout.unwrap_or(ABANDONED_LIMIT),
        };
        let connections = Connections::new(source(session), limits, first);
        // A handler's statements take as long as they take.
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

    /// The first connection, and whether the store can work with its server.
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
