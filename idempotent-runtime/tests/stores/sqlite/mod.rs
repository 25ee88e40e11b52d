//! `SqliteStore` on real files and disks: what it promises, and what faults do to it.

mod commits;
mod damage;
mod faults;
mod opening;
mod room;
mod verbs;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use idempotent_runtime::{Attempt, Claim, SqliteStore, Store, StoreKey};
use idempotent_test_support::PATIENCE;
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use test_servers::Disk;

use crate::{FINGERPRINT, RECORD, at, fresh, is_held};

const LONG: Duration = Duration::from_secs(600);

fn file(disk: &Disk) -> PathBuf {
    disk.path().join("idempotency.db")
}

async fn open(disk: &Disk) -> SqliteStore {
    SqliteStore::connect(file(disk)).await.expect("the file can be opened")
}

/// A connection as another program opens it.
async fn shell(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path);
    SqliteConnection::connect_with(&options).await.expect("the file is there")
}

/// Runs statements as another program.
async fn execute(shell: &mut SqliteConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(shell).await.expect("they are right");
}

async fn number(shell: &mut SqliteConnection, sql: &str) -> i64 {
    let sql = AssertSqlSafe(sql.to_owned());
    sqlx::query_scalar(sql).fetch_one(shell).await.expect("it is a number")
}

async fn claim(store: &impl Store, attempt: &Attempt) -> Claim {
    store.claim(attempt, LONG).await.expect("the store answers")
}

async fn claimed(store: &impl Store) -> Attempt {
    let attempt = fresh();
    assert_eq!(claim(store, &attempt).await, Claim::Claimed { lease: None });
    attempt
}

async fn stored_as(store: &impl Store, record: Bytes, ttl: Duration) -> Attempt {
    let attempt = claimed(store).await;
    assert!(is_held(store.complete(&attempt, record, ttl).await));
    attempt
}

async fn stored(store: &impl Store) -> Attempt {
    stored_as(store, RECORD, LONG).await
}

async fn assert_stored(store: &impl Store, key: StoreKey) {
    match claim(store, &at(key)).await {
        Claim::Stored { fingerprint, record, expires_in } => {
            assert_eq!((fingerprint, record), (FINGERPRINT, RECORD));
            assert!(expires_in <= LONG, "{expires_in:?}");
        }
        found => panic!("the record is there, not {found:?}"),
    }
}

/// Polls until `so` holds.
async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !so().await {
        assert!(start.elapsed() < PATIENCE, "it does not come to be so: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
