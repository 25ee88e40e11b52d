//! [`Room`]: how much space the records may take, if there is a limit.

use sqlx::{Error, SqliteConnection};

use super::sql::{self, Millis, New, Row};

/// Counted for each record in addition to its bytes: the row, two indexes, and the free space in
/// their pages.
pub(super) const ROW_OVERHEAD: u32 = 200;
/// One in this many bytes is left free in the last page of a large record.
pub(super) const FRAGMENTATION: u32 = 8;

/// The size that a record of this many bytes counts as.
pub(super) fn weight(bytes: u64) -> u64 {
    bytes + bytes / u64::from(FRAGMENTATION) + u64::from(ROW_OVERHEAD)
}

/// The limit, and what counts towards it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    max_bytes: u64,
    bytes: u64,
}

impl Room {
    /// The room in a file, for which all records have to be scanned.
    pub(super) async fn of(
        connection: &mut SqliteConnection,
        max_bytes: u64,
    ) -> Result<Self, Error> {
        Ok(Self { max_bytes, bytes: sql::total(connection).await? })
    }

    pub(super) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Makes room for records before they are stored, within their transaction, so that the newest
    /// are never evicted. Returns how many were evicted before their ttl had passed.
    pub(super) async fn make(
        &mut self,
        connection: &mut SqliteConnection,
        new: &[New<'_>],
    ) -> Result<u64, Error> {
        // Expired records under these keys are replaced.
        for New { attempt, .. } in new {
            if let Some(row) = sql::row(connection, attempt.key).await? {
                self.delete(connection, &[row]).await?;
            }
        }
        let needed: u64 = new.iter().map(|new| weight(new.record.len() as u64)).sum();
        let (now, mut evicted) = (Millis::now(), 0);
        while self.bytes + needed > self.max_bytes {
            let mut rows = sql::oldest(connection).await?;
            if rows.is_empty() {
                break;
            }
            let (missing, mut freed) = (self.bytes + needed - self.max_bytes, 0);
            let enough = rows.iter().take_while(|row| {
                let is_missing = freed < missing;
                freed += row.weight;
                is_missing
            });
            rows.truncate(enough.count());
            evicted += rows.iter().filter(|row| row.expires > now).count() as u64;
            self.delete(connection, &rows).await?;
        }
        self.bytes += needed;
        Ok(evicted)
    }

    async fn delete(
        &mut self,
        connection: &mut SqliteConnection,
        rows: &[Row],
    ) -> Result<(), Error> {
        sql::delete(connection, rows).await?;
        self.deleted(rows);
        Ok(())
    }

    pub(super) fn deleted(&mut self, rows: &[Row]) {
        let freed: u64 = rows.iter().map(|row| row.weight).sum();
        self.bytes = self.bytes.saturating_sub(freed);
    }
}
