//! Ending a transaction: the record, and the commit.

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use sqlx::{Error, PgConnection, Row as _};
use sqlx_core::transaction::TransactionManager as _;

use super::{Transaction, begin::Manager};
use crate::{
    failpoint::failpoint,
    store::{
        Attempt, StoreError,
        postgres::{
            MAX_RECORD_BYTES, error,
            sql::from_now,
            statement::{Argument, Statement},
        },
    },
};

/// Replaces the claim with its record, if the transaction carries its mark: one that the handler
/// has begun does not, and outside a transaction there is none.
pub(super) fn sql(table: &str) -> String {
    format!(
        "INSERT INTO {table} AS old (key, fingerprint, token, record, expires, operation, created)
        SELECT $1, $2, $3, $4, {expires}, $7, clock_timestamp()
        WHERE current_setting('idempotent_axum.tx', true) = encode($6, 'hex')
        ON CONFLICT (key) DO UPDATE SET record = excluded.record, expires = excluded.expires
        WHERE old.token = excluded.token
        RETURNING true",
        expires = from_now("$5"),
    )
}

/// Whether the transaction carries its mark, and its number if it has one.
pub(super) const CHECK: &str = "SELECT
    coalesce(current_setting('idempotent_axum.tx', true) = encode($1, 'hex'), false),
    pg_current_xact_id_if_assigned()::text";

/// Why a transaction was not committed, as far as is known.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was rolled back, and may succeed if retried.
    Passing(StoreError),
    /// It was rolled back, and would be again.
    Lasting(StoreError),
    /// The handler has ended it.
    Ended,
    /// The answer to the commit was lost.
    Unanswered(StoreError),
}

/// What identifies a transaction that has written something.
#[derive(Debug, Clone)]
pub(crate) struct TransactionId(pub(super) String);

impl Transaction {
    /// Stores the attempt's record.
    pub(crate) async fn record(
        &mut self,
        attempt: &Attempt,
        record: &[u8],
        ttl: Duration,
    ) -> Result<(), Failure> {
        self.refuse_open_savepoints()?;
        if record.len() > MAX_RECORD_BYTES {
            return Err(Failure::Lasting(StoreError::too_large()));
        }
        let store = &self.store;
        let statement = Statement {
            protocol: store.transactions.protocol,
            sql: &store.transactions.record,
            arguments: vec![
                Argument::Bytes(attempt.key.as_bytes()),
                Argument::Bytes(attempt.fingerprint.as_bytes()),
                Argument::Bytes(attempt.token.as_bytes()),
                Argument::Bytes(record),
                Argument::millis(ttl),
                Argument::Bytes(self.mark.as_bytes()),
                Argument::operation(attempt),
            ],
        };
        let row = statement.run(&mut self.connection).await;
        row.map_err(|error| self.rolled_back(error))?.map(drop).ok_or(Failure::Ended)
    }

    /// Whether the transaction can be committed, and what identifies it if it has written anything.
    pub(crate) async fn check(&mut self) -> Result<Option<TransactionId>, Failure> {
        self.refuse_open_savepoints()?;
        let statement = Statement {
            protocol: self.store.transactions.protocol,
            sql: &self.store.transactions.check,
            arguments: vec![Argument::Bytes(self.mark.as_bytes())],
        };
        let row = statement.run(&mut self.connection).await;
        let checked = row.and_then(|row| {
            let row = row.ok_or(Error::RowNotFound)?;
            Ok((row.try_get(0)?, row.try_get::<Option<String>, _>(1)?))
        });
        match checked.map_err(|error| self.rolled_back(error))? {
            (true, id) => Ok(id.map(TransactionId)),
            (false, _) => Err(Failure::Ended),
        }
    }

    /// Refuses a transaction in which the handler has left another open: nobody knows whether that
    /// was meant to be committed. A `ROLLBACK` that sqlx has yet to send shows as one too few.
    fn refuse_open_savepoints(&self) -> Result<(), Failure> {
        match Manager::get_transaction_depth(&self.connection) {
            0 => Err(Failure::Ended),
            1 => Ok(()),
            _ => Err(Failure::Lasting(StoreError::described(
                "a transaction that the handler began with `tx.begin()` was neither committed nor \
                 dropped",
            ))),
        }
    }

    /// Commits. [`record`](Self::record) or [`check`](Self::check) has to come first: an aborted
    /// transaction would be rolled back, which sqlx does not report.
    pub(crate) async fn commit(mut self) -> Result<(), Failure> {
        match send_commit(&mut self).await {
            Ok(()) => {
                self.connection.settle(None);
                Ok(())
            }
            Err(error) if error::is_dead_connection(&error) => {
                Err(Failure::Unanswered(self.describe(error)))
            }
            Err(error) => Err(self.rolled_back(error)),
        }
    }

    /// Rolls back. If the handler has left it in another state, the connection is closed.
    pub(crate) async fn roll_back(mut self) -> Result<(), StoreError> {
        match Manager::get_transaction_depth(&self.connection) {
            0 => return Ok(()),
            1 => Manager::rollback(&mut self.connection).await,
            _ => {
                let all = sqlx::raw_sql("ROLLBACK").execute(&mut *self.connection).await;
                return all.map(drop).map_err(|error| self.describe(error));
            }
        }
        .map_err(|error| self.describe(error))?;
        self.connection.settle(None);
        Ok(())
    }

    fn rolled_back(&self, error: Error) -> Failure {
        let is_passing = error::is_passing_in_transaction(&error);
        let error = self.describe(error);
        if is_passing { Failure::Passing(error) } else { Failure::Lasting(error) }
    }
}

async fn send_commit(connection: &mut PgConnection) -> Result<(), Error> {
    let mut commit = pin!(Manager::commit(connection));
    match poll_fn(|cx| Poll::Ready(commit.as_mut().poll(cx))).await {
        Poll::Ready(committed) => committed,
        Poll::Pending => {
            failpoint("tx-during-commit");
            commit.await
        }
    }
}
