//! Running a statement on any connection, and again if that one turns out to be dead.

use std::{sync::Arc, time::Duration};

use sqlx::postgres::PgRow;

use super::{
    connections::{Connections, Purpose},
    error,
    migrate::Table,
    sql::Statements,
    statement::Statement,
    transaction::Transactions,
};
use crate::store::{Pollers, StoreError};

/// How often a statement may conflict with a transaction, in addition to all dead connections.
const PASSING_TRIES: usize = 8;

/// What the clones of a store share.
pub(super) struct Inner {
    pub(super) connections: Arc<Connections>,
    pub(super) table: Table,
    pub(super) statement_timeout: Option<Duration>,
    pub(super) statements: Statements,
    pub(super) transactions: Transactions,
    pub(super) pollers: Pollers,
}

impl Inner {
    /// Runs `statement` and returns its first row.
    ///
    /// After a server restart all connections may be dead, hence the number of tries. Every verb
    /// but one may be repeated, so it does not matter whether the server has run it.
    pub(super) async fn run(
        &self,
        purpose: Purpose,
        statement: &Statement<'_>,
    ) -> Result<Option<PgRow>, StoreError> {
        self.run_while(error::is_passing, purpose, statement).await
    }

    /// The same for a statement that must not take effect twice: repeated only if the server
    /// reports that it was rolled back.
    pub(super) async fn run_once(
        &self,
        purpose: Purpose,
        statement: &Statement<'_>,
    ) -> Result<Option<PgRow>, StoreError> {
        self.run_while(error::is_conflict, purpose, statement).await
    }

    async fn run_while(
        &self,
        is_to_be_repeated: fn(&sqlx::Error) -> bool,
        purpose: Purpose,
        statement: &Statement<'_>,
    ) -> Result<Option<PgRow>, StoreError> {
        let mut tries_left = self.connections.limits().connections + PASSING_TRIES;
        let mut may_have_arrived = false;
        loop {
            let mut connection = match self.connections.get(purpose).await {
                Err(error) if may_have_arrived => return Err(StoreError::new(error)),
                Err(error) => return Err(StoreError::not_sent(error)),
                Ok(connection) => connection,
            };
            let result = statement.run(&mut connection).await;
            connection.settle(result.as_ref().err());
            match result {
                Err(error) if tries_left > 0 && is_to_be_repeated(&error) => {
                    tracing::debug!(
                        target: crate::TARGET,
                        error = &error as &dyn std::error::Error,
                        "a statement failed with a transient error, trying again"
                    );
                    tries_left -= 1;
                    may_have_arrived = true;
                }
                result => return result.map_err(|error| self.describe(error)),
            }
        }
    }

    pub(super) fn describe(&self, error: sqlx::Error) -> StoreError {
        error::describe(error, &self.table)
    }
}
