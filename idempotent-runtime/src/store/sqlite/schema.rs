//! The file: how to recognize it, how it is created, and whether it is intact.

use sqlx::{AssertSqlSafe, Error, Row as _, SqliteConnection};

use super::place::Place;
use crate::store::ConnectError;

/// In the header of the file, distinguishes this store's files from others: `idem`.
const APPLICATION: i32 = i32::from_be_bytes(*b"idem");
/// The format of the file, also stored in its header.
const VERSION: i32 = 1;
/// Writes the version again.
pub(super) const SAME_VERSION: &str = "PRAGMA user_version = 1";

/// `id` is the order in which records were stored, so that the oldest is the first. `key`,
/// `fingerprint` and `token` are 16 bytes each; `expires` is in milliseconds since 1970.
const CREATE: &str = "
BEGIN IMMEDIATE;
CREATE TABLE idempotency_keys (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    fingerprint BLOB NOT NULL,
    token BLOB NOT NULL,
    operation TEXT NOT NULL,
    record BLOB NOT NULL,
    expires INTEGER NOT NULL
) STRICT;
CREATE INDEX idempotency_keys_expires ON idempotency_keys (expires);
";

/// Creates the table in a new file, or makes sure that this release can use the existing one.
pub(super) async fn prepare(
    connection: &mut SqliteConnection,
    place: &Place,
    has_to_be_whole: bool,
) -> Result<(), ConnectError> {
    let failed = |error| place.not_opened(error);
    let is_new = match found(connection).await.map_err(failed)? {
        Found::Nothing => true,
        Found::Own(VERSION) => false,
        Found::Own(version) => {
            return Err(place.unusable(&format!(
                "its format is {version}, and this release reads format {VERSION}: use the \
                 release that made it, or another file"
            )));
        }
        Found::Foreign => {
            return Err(place.unusable(
                "it is the database of another program: give the idempotency store a file of its \
                 own",
            ));
        }
    };
    if is_new {
        // Cannot be changed once there is a table.
        run(connection, "PRAGMA auto_vacuum = INCREMENTAL").await.map_err(failed)?;
    }
    let mode = text(connection, "PRAGMA journal_mode = WAL").await.map_err(failed)?;
    if mode != "wal" {
        return Err(place.unusable(
            "its file system cannot share memory, which SQLite's log needs: use a local disk",
        ));
    }
    if is_new {
        create(connection).await.map_err(failed)?;
    } else {
        try_to_write(connection).await.map_err(failed)?;
        if has_to_be_whole {
            check(connection, place).await?;
        }
    }
    Ok(())
}

enum Found {
    Nothing,
    /// A file of this store, in this format.
    Own(i32),
    Foreign,
}

async fn found(connection: &mut SqliteConnection) -> Result<Found, Error> {
    let row = sqlx::query(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema)
        FROM pragma_application_id, pragma_user_version",
    )
    .fetch_one(connection)
    .await?;
    Ok(match (row.try_get(0)?, row.try_get(1)?, row.try_get::<i64, _>(2)?) {
        (APPLICATION, version, _) => Found::Own(version),
        (0, 0, 0) => Found::Nothing,
        _ => Found::Foreign,
    })
}

async fn create(connection: &mut SqliteConnection) -> Result<(), Error> {
    let marks =
        format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; COMMIT");
    let create = AssertSqlSafe(format!("{CREATE}{marks}"));
    let created = sqlx::raw_sql(create).execute(&mut *connection).await;
    if created.is_err() {
        // What went wrong has already been reported.
        let _ = run(connection, "ROLLBACK").await;
    }
    created.map(drop)
}

/// A read-only file can be opened, and a transaction can begin on it.
async fn try_to_write(connection: &mut SqliteConnection) -> Result<(), Error> {
    run(connection, "DELETE FROM idempotency_keys WHERE false").await
}

/// Reads the whole file.
async fn check(connection: &mut SqliteConnection, place: &Place) -> Result<(), ConnectError> {
    let found = text(connection, "PRAGMA integrity_check(1)").await;
    let found = found.map_err(|error| place.not_opened(error))?;
    if found == "ok" { Ok(()) } else { Err(place.damaged(found)) }
}

async fn text(connection: &mut SqliteConnection, sql: &'static str) -> Result<String, Error> {
    sqlx::query_scalar(sql).fetch_one(connection).await
}

pub(super) async fn run(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), Error> {
    sqlx::query(sql).execute(connection).await.map(drop)
}
