//! The statements on the table, and the meaning of its rows.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use sqlx::{Error, QueryBuilder, Sqlite, SqliteConnection};

use super::room::{FRAGMENTATION, ROW_OVERHEAD, weight};
use crate::store::{Attempt, Claim, Fingerprint, KeyState, StoreKey, Token};

/// A hundred years.
const LONGEST_MILLIS: i64 = 100 * 366 * 24 * 3_600_000;

/// The store's clock, in milliseconds since 1970: the machine's, since what it judges outlives the
/// process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Millis(i64);

impl Millis {
    pub(super) fn now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX - LONGEST_MILLIS))
    }

    /// `ttl` later, rounded up, so that the shortest ttl is not zero.
    pub(super) fn after(self, ttl: Duration) -> Self {
        let millis = i64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis.min(LONGEST_MILLIS)))
    }

    /// The time left until `later`; never zero.
    fn until(self, later: i64) -> Duration {
        Duration::from_millis(u64::try_from(later.saturating_sub(self.0)).unwrap_or(0).max(1))
    }
}

/// A record on disk.
pub(super) struct Stored {
    pub(super) token: Token,
    fingerprint: Fingerprint,
    pub(super) record: Bytes,
    expires_in: Duration,
}

impl From<Stored> for Claim {
    fn from(Stored { fingerprint, record, expires_in, .. }: Stored) -> Self {
        Self::Stored { fingerprint, record, expires_in }
    }
}

impl From<Stored> for KeyState {
    fn from(Stored { fingerprint, record, expires_in, .. }: Stored) -> Self {
        Self::Stored { fingerprint, record, expires_in }
    }
}

/// Fingerprint, token, record and its expiry.
type Columns = (Vec<u8>, Vec<u8>, Vec<u8>, i64);

/// The record of `key`, unless it has expired.
pub(super) async fn find(
    connection: &mut SqliteConnection,
    key: StoreKey,
) -> Result<Option<Stored>, Error> {
    let now = Millis::now();
    let row: Option<Columns> = sqlx::query_as(
        "SELECT fingerprint, token, record, expires FROM idempotency_keys
        WHERE key = ?1 AND expires > ?2",
    )
    .bind(&key.as_bytes()[..])
    .bind(now.0)
    .fetch_optional(connection)
    .await?;
    let Some((fingerprint, token, record, expires)) = row else { return Ok(None) };
    Ok(Some(Stored {
        token: Token::from_bytes(sixteen("token", &token)?),
        fingerprint: Fingerprint::from_bytes(sixteen("fingerprint", &fingerprint)?),
        record: record.into(),
        expires_in: now.until(expires),
    }))
}

fn sixteen(column: &str, bytes: &[u8]) -> Result<[u8; 16], Error> {
    bytes.try_into().map_err(|source| Error::ColumnDecode {
        index: column.to_owned(),
        source: Box::new(source),
    })
}

/// A record to store.
#[derive(Clone, Copy)]
pub(super) struct New<'a> {
    pub(super) attempt: &'a Attempt,
    pub(super) record: &'a Bytes,
    pub(super) expires: Millis,
}

/// Stores records, each replacing an expired one with the same key.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    new: impl IntoIterator<Item = New<'_>>,
) -> Result<(), Error> {
    let mut insert = QueryBuilder::<Sqlite>::new(
        "INSERT OR REPLACE INTO idempotency_keys
            (key, fingerprint, token, operation, record, expires) ",
    );
    insert.push_values(new, |mut row, New { attempt, record, expires }| {
        row.push_bind(&attempt.key.as_bytes()[..])
            .push_bind(&attempt.fingerprint.as_bytes()[..])
            .push_bind(&attempt.token.as_bytes()[..])
            .push_bind(attempt.operation().to_owned())
            .push_bind(&record[..])
            .push_bind(expires.0);
    });
    insert.build().execute(connection).await.map(drop)
}

/// A row, without its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) weight: u64,
    pub(super) expires: Millis,
}

impl Row {
    fn new((id, bytes, expires): (i64, i64, i64)) -> Self {
        Self { id, weight: weight(u64::try_from(bytes).unwrap_or(0)), expires: Millis(expires) }
    }
}

macro_rules! rows {
    ($which:literal) => {
        concat!("SELECT id, length(record), expires FROM idempotency_keys ", $which)
    };
}

/// The expired rows, the first to expire coming first.
pub(super) async fn expired(connection: &mut SqliteConnection) -> Result<Vec<Row>, Error> {
    const EXPIRED: &str = rows!("WHERE expires <= ?1 ORDER BY expires LIMIT 256");
    let rows = sqlx::query_as(EXPIRED).bind(Millis::now().0).fetch_all(connection).await?;
    Ok(rows.into_iter().map(Row::new).collect())
}

/// The rows that were stored first.
pub(super) async fn oldest(connection: &mut SqliteConnection) -> Result<Vec<Row>, Error> {
    const OLDEST: &str = rows!("ORDER BY id LIMIT 256");
    let rows = sqlx::query_as(OLDEST).fetch_all(connection).await?;
    Ok(rows.into_iter().map(Row::new).collect())
}

/// The row of `key`, expired or not.
pub(super) async fn row(
    connection: &mut SqliteConnection,
    key: StoreKey,
) -> Result<Option<Row>, Error> {
    const OF_KEY: &str = rows!("WHERE key = ?1");
    let row = sqlx::query_as(OF_KEY).bind(&key.as_bytes()[..]).fetch_optional(connection).await?;
    Ok(row.map(Row::new))
}

pub(super) async fn delete(connection: &mut SqliteConnection, rows: &[Row]) -> Result<(), Error> {
    // The same statement for any number of rows, so it is prepared once.
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let ids = serde_json::to_string(&ids).map_err(|error| Error::Encode(Box::new(error)))?;
    sqlx::query("DELETE FROM idempotency_keys WHERE id IN (SELECT value FROM json_each(?1))")
        .bind(ids)
        .execute(connection)
        .await
        .map(drop)
}

/// The total weight of all records.
pub(super) async fn total(connection: &mut SqliteConnection) -> Result<u64, Error> {
    let total: i64 = sqlx::query_scalar(
        "SELECT coalesce(sum(length(record) + length(record) / ?1 + ?2), 0) FROM idempotency_keys",
    )
    .bind(FRAGMENTATION)
    .bind(ROW_OVERHEAD)
    .fetch_one(connection)
    .await?;
    Ok(u64::try_from(total).unwrap_or(0))
}

/// The number of free pages in the file, and of all pages.
pub(super) async fn pages(connection: &mut SqliteConnection) -> Result<(i64, i64), Error> {
    sqlx::query_as(
        "SELECT freelist_count, page_count FROM pragma_freelist_count, pragma_page_count",
    )
    .fetch_one(connection)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_up_and_stay_in_range() {
        let now = Millis(1_000);
        assert_eq!(now.after(Duration::from_nanos(1)), Millis(1_001));
        assert_eq!(now.after(Duration::from_millis(20)), Millis(1_020));
        assert_eq!(now.after(Duration::MAX), Millis(1_000 + LONGEST_MILLIS));
        assert!(Millis::now().after(Duration::MAX) > Millis::now());
        assert_eq!(now.until(999), Duration::from_millis(1), "never nothing");
        assert_eq!(now.until(3_500), Duration::from_millis(2_500));
    }
}
