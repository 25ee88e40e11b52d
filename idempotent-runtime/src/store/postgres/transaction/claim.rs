//! Claiming a key in a transaction.

use std::time::Duration;

use super::Transaction;
use crate::store::{
    Attempt, StoreError,
    postgres::{
        error::{self, code},
        sql::from_now,
        statement::{Argument, Statement},
    },
};

/// Takes the lock and, if that was free, the row, unless that is live. The snapshot of the
/// statement is older than the lock, so only the conflict of the `INSERT` tells whether the key is
/// free: it looks at the newest version of the row.
pub(super) fn sql(table: &str) -> String {
    format!(
        "WITH lock AS (
            SELECT pg_try_advisory_xact_lock($6) AS is_ours
        ), claimed AS (
            INSERT INTO {table} AS old (key, fingerprint, token, record, expires, operation, created)
            SELECT $1, $2, $3, $4, {expires}, $7, clock_timestamp() FROM lock WHERE is_ours
            ON CONFLICT (key) DO UPDATE
            SET fingerprint = excluded.fingerprint, token = excluded.token,
                record = excluded.record, expires = excluded.expires,
                operation = excluded.operation, created = excluded.created
            WHERE old.expires <= clock_timestamp()
            RETURNING true
        )
        SELECT EXISTS (SELECT FROM claimed), set_config('statement_timeout', NULL, true)",
        expires = from_now("$5"),
    )
}

impl Transaction {
    /// Claims the attempt's key with `note`, which remains as its record if the handler commits on
    /// its own. `false` if someone else has the key, or is looking at it: the transaction is then
    /// useless.
    pub(crate) async fn claim(
        &mut self,
        attempt: &Attempt,
        note: &[u8],
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let store = &self.store;
        let statement = Statement {
            protocol: store.transactions.protocol,
            sql: &store.transactions.claim,
            arguments: vec![
                Argument::Bytes(attempt.key.as_bytes()),
                Argument::Bytes(attempt.fingerprint.as_bytes()),
                Argument::Bytes(attempt.token.as_bytes()),
                Argument::Bytes(note),
                Argument::millis(ttl),
                store.statements.lock(&attempt.key),
                Argument::operation(attempt),
            ],
        };
        match statement.run(&mut self.connection).await {
            Ok(row) => {
                let row = row.ok_or(sqlx::Error::RowNotFound);
                row.and_then(|row| sqlx::Row::try_get(&row, 0))
                    .map_err(|error| self.describe(error))
            }
            // Its snapshot is older than the claim of the previous holder.
            Err(error) if error::CONFLICT.contains(&&*code(&error)) => Ok(false),
            Err(error) => Err(self.describe(error)),
        }
    }
}
