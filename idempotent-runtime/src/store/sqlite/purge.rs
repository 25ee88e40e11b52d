//! [`Purge`]: deletes expired records in the background.
//!
//! It uses small transactions between those that callers wait for, so that many records expiring at
//! once do not hold anyone up.

use std::{error::Error as StdError, time::Duration};

use sqlx::{Error, SqliteConnection};
use tokio::time::Instant;

use super::{
    schema::{self, run},
    sql::{self, Row},
    writer::Writer,
};

/// How often to look for expired records.
const EVERY: Duration = Duration::from_secs(1);
/// The maximum size of the records deleted at once.
const MOST_BYTES: u64 = 4 << 20;
/// This many free pages may stay in the file, or a quarter of all pages if that is more.
const KEPT_PAGES: i64 = 1024;

/// When expired records are deleted next.
pub(super) struct Purge {
    due: Instant,
}

impl Purge {
    pub(super) fn new() -> Self {
        Self { due: Instant::now() }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    pub(super) async fn run_if_due(&mut self, writer: &mut Writer) {
        if Instant::now() < self.due {
            return;
        }
        let is_known = writer.health.is_troubled();
        let writing = writer.health.writing();
        let purged = purge(writer).await;
        drop(writing);
        let pause = match &purged {
            Ok(Left::Some) => {
                writer.health.written();
                Duration::ZERO
            }
            Ok(Left::Nothing) => EVERY,
            Err(error) => {
                writer.health.not_written(error);
                if !is_known {
                    tracing::warn!(
                        target: crate::TARGET,
                        error = error as &dyn StdError,
                        "deleting expired idempotency records failed"
                    );
                }
                EVERY
            }
        };
        self.due = Instant::now() + pause;
    }
}

/// What is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Some,
    Nothing,
}

/// Deletes some expired records; if there are none, returns unneeded pages.
async fn purge(writer: &mut Writer) -> Result<Left, Error> {
    let mut expired = sql::expired(&mut writer.connection).await?;
    if expired.is_empty() && writer.health.is_troubled() {
        // Tries a write that changes nothing, since nobody else may try.
        run(&mut writer.connection, schema::SAME_VERSION).await?;
        return Ok(Left::Some);
    }
    if expired.is_empty() {
        return shrink(&mut writer.connection).await;
    }
    expired.truncate(within(&expired, MOST_BYTES));
    sql::delete(&mut writer.connection, &expired).await?;
    if let Some(room) = &mut writer.room {
        room.deleted(&expired);
    }
    tracing::debug!(
        target: crate::TARGET,
        purged = expired.len(),
        "expired idempotency records deleted"
    );
    Ok(Left::Some)
}

/// How many of the first rows weigh at most `most` in total; at least one.
fn within(rows: &[Row], most: u64) -> usize {
    let mut bytes = 0;
    let fits = |row: &&Row| {
        bytes += row.weight;
        bytes <= most
    };
    rows.iter().take_while(fits).count().max(1)
}

/// Returns to the file system some of the pages that a flood has left behind.
async fn shrink(connection: &mut SqliteConnection) -> Result<Left, Error> {
    let (free, all) = sql::pages(connection).await?;
    if free <= KEPT_PAGES.max(all / 4) {
        return Ok(Left::Nothing);
    }
    run(connection, "PRAGMA incremental_vacuum(256)").await?;
    Ok(Left::Some)
}

#[cfg(test)]
mod tests {
    use super::{super::sql::Millis, *};

    #[test]
    fn a_batch_holds_so_many_bytes_or_one_record() {
        let row = |weight| Row { id: 1, weight, expires: Millis::now() };
        assert_eq!(within(&[row(3), row(4), row(4)], 7), 2);
        assert_eq!(within(&[row(9), row(4)], 7), 1);
        assert_eq!(within(&[row(1)], 7), 1);
    }
}
