//! Running a statement on whichever connection is at hand, again if that one turns out to be dead.

use sqlx::{PgPool, postgres::PgRow};

use super::{connection::Connection, error, migrate::Table, sql::Statements, statement::Statement};
use crate::store::{Pollers, StoreError};

/// How often a statement may meet another transaction, beside all dead connections.
const PASSING_TRIES: u32 = 8;

/// What the clones of a store share.
pub(super) struct Inner {
    pub(super) pool: PgPool,
    pub(super) table: Table,
    pub(super) statements: Statements,
    pub(super) pollers: Pollers,
}

impl Inner {
    /// Runs `statement` and gives its first row.
    ///
    /// After a restart of the server all pooled connections may be dead, hence the bound. Every
    /// verb may be repeated, so it does not matter whether the server got to run it.
    pub(super) async fn run(&self, statement: &Statement<'_>) -> Result<Option<PgRow>, StoreError> {
        let mut tries_left =
            self.pool.options().get_max_connections().saturating_add(PASSING_TRIES);
        let mut may_have_arrived = false;
        loop {
            let mut connection = match self.connection().await {
                Err(error) if may_have_arrived => return Err(self.describe(error)),
                Err(error) => return Err(StoreError::not_sent(error)),
                Ok(connection) => connection,
            };
            let result = statement.run(&mut connection).await;
            connection.settle(result.as_ref().err());
            match result {
                Err(error) if tries_left > 0 && error::is_passing(&error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "a statement failed for a passing reason, trying again"
                    );
                    tries_left -= 1;
                    may_have_arrived = true;
                }
                result => return result.map_err(|error| self.describe(error)),
            }
        }
    }

    /// A connection of the pool. If this fails, nothing was sent over any.
    pub(super) async fn connection(&self) -> Result<Connection, sqlx::Error> {
        Ok(Connection::new(self.pool.acquire().await?))
    }

    pub(super) fn describe(&self, error: sqlx::Error) -> StoreError {
        error::describe(error, &self.table)
    }
}
