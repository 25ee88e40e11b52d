//! Options of a [`PostgresStore`], and its first connection.

use std::{str::FromStr, sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions as _, Connection as _, Error, PgConnection, PgPool, Row as _,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{
    PostgresStore, error, migrate::Table, run::Inner, sql::Statements, statement::Protocol,
};
use crate::store::{ConnectError, Pollers};

const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const DEFAULT_MAX_CONNECTIONS: u32 = 10;
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
    max_connections: u32,
}

impl PostgresStoreBuilder {
    pub(super) fn new() -> Self {
        Self {
            schema: Table::DEFAULT_SCHEMA.to_owned(),
            table: Table::DEFAULT_NAME.to_owned(),
            protocol: Protocol::Extended,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            max_connections: DEFAULT_MAX_CONNECTIONS,
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
    /// session. It costs the server a plan for every statement, and a record is sent as hex.
    /// Statements are not logged by the client then, because their text contains the records;
    /// with [`build`](Self::build) that is the pool's affair. If the *server* logs the text of
    /// statements (`log_statement`, `log_min_duration_statement`, failed ones), its log contains
    /// them too.
    ///
    /// Without this option, [`connect`](Self::connect) refuses a pooler.
    pub fn transaction_pooler(mut self) -> Self {
        self.protocol = Protocol::Simple;
        self
    }

    /// How long [`connect`](Self::connect) tries, and how long a call waits for a free connection.
    /// Default: 2 seconds.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The most connections that [`connect`](Self::connect)'s pool opens. Default: 10.
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections.max(1);
        self
    }

    /// Connects to the server at `url`.
    ///
    /// # Errors
    ///
    /// Returns an error if a name is not valid, or [`PostgresStore::connect`] would.
    pub async fn connect(self, url: impl AsRef<str>) -> Result<PostgresStore, ConnectError> {
        let options = self.options(url.as_ref())?;
        let place = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let unusable =
            |why: &str| ConnectError::new(format!("cannot use PostgreSQL at `{place}`: {why}"));
        let limit = self.connect_timeout;
        match tokio::time::timeout(limit, self.probe(&options)).await {
            Ok(Ok(())) => {}
            Ok(Err(Refusal::Error(error))) if self.is_refused_by_pooler(&error) => {
                return Err(unusable(POOLER).because(error));
            }
            Ok(Err(Refusal::Error(error))) => {
                return Err(ConnectError::unreachable("PostgreSQL", &place).because(error));
            }
            Ok(Err(Refusal::Pooler)) => return Err(unusable(POOLER)),
            Ok(Err(Refusal::ReadOnly)) => return Err(unusable(error::READ_ONLY_SERVER)),
            Err(elapsed) => {
                return Err(ConnectError::silent("PostgreSQL", &place, limit).because(elapsed));
            }
        }
        let pool = PgPoolOptions::new()
            .max_connections(self.max_connections)
            .acquire_timeout(limit)
            // A dead connection shows at the first statement, which is then made again.
            .test_before_acquire(false)
            .connect_lazy_with(options);
        self.build(pool)
    }

    /// A store on connections of `pool`.
    ///
    /// # Errors
    ///
    /// Returns an error if the name of schema or table is not valid.
    pub fn build(self, pool: PgPool) -> Result<PostgresStore, ConnectError> {
        let table = Table::new(&self.schema, &self.table)?;
        Ok(self.build_on(pool, table))
    }

    pub(super) fn build_on(self, pool: PgPool, table: Table) -> PostgresStore {
        let statements = Statements::new(self.protocol, &table.to_string());
        let inner = Inner { pool, table, statements, pollers: Pollers::default() };
        PostgresStore { inner: Arc::new(inner) }
    }

    fn options(&self, url: &str) -> Result<PgConnectOptions, ConnectError> {
        Table::new(&self.schema, &self.table)?;
        let options = PgConnectOptions::from_str(url).map_err(|error| {
            let message = "the URL of the PostgreSQL server is not valid: it has the form \
                           `postgres://user:password@host:5432/database`";
            ConnectError::new(message).because(error)
        })?;
        Ok(match self.protocol {
            Protocol::Extended => options.options([(DIRECT, "on")]),
            // Poolers refuse a startup parameter that they do not track.
            Protocol::Simple => options
                .extra_float_digits(None)
                .statement_cache_capacity(0)
                .disable_statement_logging(),
        })
    }

    /// One connection, to see whether the store can work with this server.
    async fn probe(&self, options: &PgConnectOptions) -> Result<(), Refusal> {
        let mut connection = PgConnection::connect_with(options).await?;
        let row = sqlx::raw_sql(
            "SELECT current_setting('idempotent_axum.direct', true) = 'on',
                current_setting('transaction_read_only') = 'on'",
        )
        .fetch_one(&mut connection)
        .await?;
        let is_direct: Option<bool> = row.try_get(0)?;
        let is_read_only: bool = row.try_get(1)?;
        // The answer is there: how the connection ends does not matter.
        let _ = connection.close().await;
        if self.protocol == Protocol::Extended && is_direct != Some(true) {
            return Err(Refusal::Pooler);
        }
        if is_read_only {
            return Err(Refusal::ReadOnly);
        }
        Ok(())
    }

    /// Whether a pooler has refused the session's settings, in the first message already.
    fn is_refused_by_pooler(&self, error: &Error) -> bool {
        self.protocol == Protocol::Extended
            && error
                .as_database_error()
                .is_some_and(|error| error.message().contains("startup parameter"))
    }
}

const POOLER: &str = "a connection pooler stands in between, and would run statements in other \
                      sessions than their own; use \
                      `PostgresStore::builder().transaction_pooler()`";

enum Refusal {
    Error(Error),
    Pooler,
    ReadOnly,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}
