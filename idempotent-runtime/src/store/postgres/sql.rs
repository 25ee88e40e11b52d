//! The SQL: one statement a verb, run on a connection, so that it can run in anybody's transaction.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use bytes::Bytes;
use sqlx::{
    AssertSqlSafe, Error, PgConnection, Row as _,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use crate::{
    digest::{Fingerprint, StoreKey},
    store::{Claim, Token},
};

/// How many rows one call of [`Statements::purge`] deletes at most.
pub(crate) const PURGE_BATCH: i64 = 500;
/// Within what a `timestamptz` can hold.
const LONGEST_MILLIS: i64 = 100 * 366 * 24 * 3_600_000;

/// How a statement travels to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Prepared once for a connection, arguments apart, in two round trips the first time and one
    /// from then on.
    Extended,
    /// One message with the arguments as literals. Nothing outlives it in the server's session, so
    /// a pooler may give every statement to another server connection.
    Simple,
}

/// The statements for one table.
#[derive(Debug)]
pub(crate) struct Statements {
    protocol: Protocol,
    claim: Arc<str>,
    renew: Arc<str>,
    complete: Arc<str>,
    release: Arc<str>,
    is_running: Arc<str>,
    purge: Arc<str>,
}

/// Times are those of `clock_timestamp()`: `now()` stands still within a transaction, and a
/// transaction may wait for a lock.
impl Statements {
    /// The statements for `table`, a quoted name.
    pub(crate) fn new(protocol: Protocol, table: &str) -> Self {
        let live = "expires > clock_timestamp()";
        let from_now = |millis| format!("clock_timestamp() + {millis} * interval '1 millisecond'");
        let held = format!("key = $1 AND token = $2 AND record IS NULL AND {live}");

        // `found` reads what others hold. Only where there is nothing, a row is inserted or an
        // expired one replaced: `ON CONFLICT` locks the row and judges its newest version, so that
        // one of many wins. The others find no row of theirs, and no row at all where their
        // snapshot is older than the winner.
        let claim = format!(
            "WITH found AS (
                SELECT fingerprint, record, expires FROM {table}
                WHERE key = $1 AND {live} AND NOT (token = $3 AND record IS NULL)
            ), claimed AS (
                INSERT INTO {table} AS old (key, fingerprint, token, expires)
                SELECT $1, $2, $3, {lease} WHERE NOT EXISTS (SELECT FROM found)
                ON CONFLICT (key) DO UPDATE
                SET fingerprint = excluded.fingerprint, token = excluded.token, record = NULL,
                    expires = {lease}
                WHERE old.expires <= clock_timestamp()
                    OR (old.token = excluded.token AND old.record IS NULL)
                RETURNING fingerprint
            )
            SELECT false, fingerprint, record,
                ceil(extract(epoch FROM expires - clock_timestamp()) * 1000)::int8 FROM found
            UNION ALL SELECT true, fingerprint, NULL, NULL FROM claimed",
            lease = from_now("$4"),
        );
        let renew =
            format!("UPDATE {table} SET expires = {} WHERE {held} RETURNING true", from_now("$3"));
        // A record of this token is rewritten as it is: a second look at the row after the update
        // would use an older snapshot than the update, and miss a record that was just committed.
        let complete = format!(
            "UPDATE {table} SET record = coalesce(record, $3),
                expires = CASE WHEN record IS NULL THEN {ttl} ELSE expires END
            WHERE key = $1 AND token = $2 AND {live} RETURNING true",
            ttl = from_now("$4"),
        );
        let release =
            format!("DELETE FROM {table} WHERE key = $1 AND token = $2 AND record IS NULL");
        let is_running =
            format!("SELECT true FROM {table} WHERE key = $1 AND record IS NULL AND {live}");
        // `clock_timestamp()` cannot use the index, and an older time deletes nothing too early.
        // Locking a row judges its newest version, so a row that came to life meanwhile is left.
        let expired = "expires <= statement_timestamp()";
        let purge = format!(
            "WITH gone AS (
                DELETE FROM {table} WHERE ctid = ANY (ARRAY(
                    SELECT ctid FROM {table} WHERE {expired}
                    ORDER BY expires LIMIT {PURGE_BATCH} FOR UPDATE SKIP LOCKED))
                RETURNING true
            ) SELECT count(*) FROM gone"
        );
        Self {
            protocol,
            claim: claim.into(),
            renew: renew.into(),
            complete: complete.into(),
            release: release.into(),
            is_running: is_running.into(),
            purge: purge.into(),
        }
    }

    /// Claims or reads; `None`: somebody else came first, look again.
    pub(crate) async fn claim(
        &self,
        connection: &mut PgConnection,
        key: StoreKey,
        fingerprint: Fingerprint,
        token: Token,
        lease: Duration,
    ) -> Result<Option<Claim>, Error> {
        let arguments = [
            Argument::Bytes(key.as_bytes()),
            Argument::Bytes(fingerprint.as_bytes()),
            Argument::Bytes(token.as_bytes()),
            Argument::millis(lease),
        ];
        let Some(row) = self.run(&self.claim, &arguments, connection).await? else {
            return Ok(None);
        };
        if row.try_get(0)? {
            return Ok(Some(Claim::Claimed { lease: Some(lease) }));
        }
        let fingerprint = Fingerprint::from_bytes(row.try_get(1)?);
        if let Some(record) = row.try_get::<Option<Vec<u8>>, _>(2)? {
            return Ok(Some(Claim::Stored { fingerprint, record: record.into() }));
        }
        // The lease may have lapsed while this was answered; a wait of nothing would spin.
        let left = u64::try_from(row.try_get::<i64, _>(3)?).unwrap_or(0).max(1);
        Ok(Some(Claim::Running { fingerprint, lease_left: Some(Duration::from_millis(left)) }))
    }

    /// Whether the claim is still held, for `lease` from now.
    pub(crate) async fn renew(
        &self,
        connection: &mut PgConnection,
        key: StoreKey,
        token: Token,
        lease: Duration,
    ) -> Result<bool, Error> {
        let arguments = [
            Argument::Bytes(key.as_bytes()),
            Argument::Bytes(token.as_bytes()),
            Argument::millis(lease),
        ];
        Ok(self.run(&self.renew, &arguments, connection).await?.is_some())
    }

    /// Whether the record of `token` is stored, now or before.
    pub(crate) async fn complete(
        &self,
        connection: &mut PgConnection,
        key: StoreKey,
        token: Token,
        record: Bytes,
        ttl: Duration,
    ) -> Result<bool, Error> {
        let arguments = [
            Argument::Bytes(key.as_bytes()),
            Argument::Bytes(token.as_bytes()),
            Argument::Bytes(&record),
            Argument::millis(ttl),
        ];
        Ok(self.run(&self.complete, &arguments, connection).await?.is_some())
    }

    /// Deletes the claim of `token`.
    pub(crate) async fn release(
        &self,
        connection: &mut PgConnection,
        key: StoreKey,
        token: Token,
    ) -> Result<(), Error> {
        let arguments = [Argument::Bytes(key.as_bytes()), Argument::Bytes(token.as_bytes())];
        self.run(&self.release, &arguments, connection).await.map(drop)
    }

    /// Whether anybody holds a claim on `key`.
    pub(crate) async fn is_running(
        &self,
        connection: &mut PgConnection,
        key: StoreKey,
    ) -> Result<bool, Error> {
        let arguments = [Argument::Bytes(key.as_bytes())];
        Ok(self.run(&self.is_running, &arguments, connection).await?.is_some())
    }

    /// Deletes up to [`PURGE_BATCH`] expired rows that nobody else is deleting; how many.
    pub(crate) async fn purge(&self, connection: &mut PgConnection) -> Result<i64, Error> {
        let row = self.run(&self.purge, &[], connection).await?.ok_or(Error::RowNotFound)?;
        row.try_get(0)
    }

    async fn run(
        &self,
        sql: &Arc<str>,
        arguments: &[Argument<'_>],
        connection: &mut PgConnection,
    ) -> Result<Option<PgRow>, Error> {
        match self.protocol {
            Protocol::Extended => {
                let query = sqlx::query(AssertSqlSafe(Arc::clone(sql)));
                let bound = arguments.iter().fold(query, |query, argument| argument.bind(query));
                bound.fetch_optional(connection).await
            }
            Protocol::Simple => {
                let sql = with_literals(sql, arguments);
                sqlx::raw_sql(AssertSqlSafe(sql)).fetch_optional(connection).await
            }
        }
    }
}

/// An argument of a statement.
#[derive(Clone, Copy)]
enum Argument<'a> {
    Bytes(&'a [u8]),
    Millis(i64),
}

type Bound<'q> = Query<'q, sqlx::Postgres, PgArguments>;

impl Argument<'_> {
    /// `duration` in milliseconds, rounded up: the shortest one is not nothing.
    fn millis(duration: Duration) -> Self {
        let millis = duration.as_nanos().div_ceil(1_000_000);
        Self::Millis(i64::try_from(millis).unwrap_or(i64::MAX).min(LONGEST_MILLIS))
    }

    fn bind<'q>(&self, query: Bound<'q>) -> Bound<'q> {
        match *self {
            Self::Bytes(bytes) => query.bind(bytes),
            Self::Millis(millis) => query.bind(millis),
        }
    }

    /// Writes the literal, whatever `standard_conforming_strings` is. Hex digits need no quoting.
    fn write(&self, sql: &mut String) {
        match *self {
            Self::Bytes(bytes) => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                sql.push_str("decode('");
                for byte in bytes {
                    sql.push(char::from(DIGITS[usize::from(byte >> 4)]));
                    sql.push(char::from(DIGITS[usize::from(byte & 15)]));
                }
                sql.push_str("', 'hex')");
            }
            Self::Millis(millis) => {
                write!(sql, "{millis}").expect("a string takes all that is written");
            }
        }
    }
}

/// `sql` with each `$n` replaced by its argument.
fn with_literals(sql: &str, arguments: &[Argument<'_>]) -> String {
    let mut parts = sql.split('$');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digit, rest) = part.split_at(1);
        let index: usize = digit.parse().expect("a parameter is a digit");
        arguments[index - 1].write(&mut out);
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_become_literals_without_anything_to_escape() {
        let arguments = [Argument::Bytes(b"'\\\0\xff"), Argument::Millis(1500)];
        assert_eq!(
            with_literals("key = $1 AND $2 * $1", &arguments),
            "key = decode('275c00ff', 'hex') AND 1500 * decode('275c00ff', 'hex')"
        );
    }

    #[test]
    fn durations_round_up_and_stay_in_range() {
        let millis = |duration| match Argument::millis(duration) {
            Argument::Millis(millis) => millis,
            Argument::Bytes(_) => unreachable!("a duration is not bytes"),
        };
        assert_eq!(millis(Duration::from_nanos(1)), 1);
        assert_eq!(millis(Duration::from_millis(20)), 20);
        assert_eq!(millis(Duration::MAX), LONGEST_MILLIS);
    }
}
