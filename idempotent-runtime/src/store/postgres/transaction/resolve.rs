//! Finding out what became of a commit whose answer was lost.

use std::sync::Arc;

use sqlx::{Error, Row as _};

use super::complete::TransactionId;
use crate::store::{
    Attempt, StoreError,
    postgres::{
        PostgresStore,
        connections::Purpose,
        statement::{Argument, Statement},
    },
};

/// Whether the attempt's token has stored its record.
pub(super) fn sql(table: &str) -> String {
    format!("SELECT true FROM {table} WHERE key = $1 AND token = $2")
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Committed,
    RolledBack,
    /// The server has not ended it yet.
    Open,
}

impl PostgresStore {
    /// What became of the transaction that the attempt's record was stored in.
    ///
    /// Two statements: a missing row means nothing while the transaction may still be running, and
    /// the lock is free only after its row has become visible.
    pub(crate) async fn fate_of_attempt(&self, attempt: &Attempt) -> Result<Fate, StoreError> {
        let store = &self.inner;
        let is_open = store.run(Purpose::Hold, &store.statements.is_locked(&attempt.key)).await?;
        if is_open.is_some() {
            return Ok(Fate::Open);
        }
        let statement = Statement {
            protocol: store.transactions.protocol,
            sql: &store.transactions.is_stored,
            arguments: vec![
                Argument::Bytes(attempt.key.as_bytes()),
                Argument::Bytes(attempt.token.as_bytes()),
            ],
        };
        let row = store.run(Purpose::Hold, &statement).await?;
        Ok(row.map_or(Fate::RolledBack, |_| Fate::Committed))
    }

    /// What became of the transaction with this number. One that the server no longer knows was not
    /// committed.
    pub(crate) async fn fate_of(&self, id: &TransactionId) -> Result<Fate, StoreError> {
        let store = &self.inner;
        // Only digits, written by the server.
        let sql: Arc<str> = format!("SELECT pg_xact_status('{}'::xid8)", id.0).into();
        let protocol = store.transactions.protocol;
        let statement = Statement { protocol, sql: &sql, arguments: Vec::new() };
        let row = store.run(Purpose::Hold, &statement).await?;
        let status = row.ok_or(Error::RowNotFound).and_then(|row| row.try_get(0));
        let status: Option<String> = status.map_err(|error| store.describe(error))?;
        Ok(match status.as_deref() {
            Some("committed") => Fate::Committed,
            Some("in progress") => Fate::Open,
            _ => Fate::RolledBack,
        })
    }
}
