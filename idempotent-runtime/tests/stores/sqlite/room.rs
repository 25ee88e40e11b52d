//! What is deleted: the oldest records past a limit, and those that have expired.

use std::{fs, time::Duration};

use bytes::Bytes;
use idempotent_runtime::{Attempt, Claim, SqliteStore, Store};
use idempotent_test_support::Events;
use sqlx::Connection as _;
use test_servers::Disk;
use tracing::Level;

use super::{
    LONG, assert_stored, claim, claimed, execute, file, number, open, shell, stored, stored_as,
    until,
};
use crate::{at, is_held};

const KIB: Bytes = Bytes::from_static(&[7; 1024]);

async fn limited(disk: &Disk, max_bytes: u64) -> SqliteStore {
    let builder = SqliteStore::builder().max_bytes(max_bytes);
    builder.connect(file(disk)).await.expect("it opens")
}

async fn is_stored(store: &SqliteStore, attempt: &Attempt) -> bool {
    let other = at(attempt.key);
    let is_stored = matches!(claim(store, &other).await, Claim::Stored { .. });
    store.release(&other).await.unwrap();
    is_stored
}

#[tokio::test]
async fn the_oldest_are_evicted_counted_and_logged() {
    let (events, _guard) = Events::of_thread();
    let disk = Disk::new();
    let store = limited(&disk, 64 << 10).await;
    let running = claimed(&store).await;
    let mut attempts = Vec::new();
    for _ in 0..100 {
        attempts.push(stored_as(&store, KIB, LONG).await);
        assert!(is_stored(&store, attempts.last().unwrap()).await, "the newest is there");
    }
    let evicted = usize::try_from(store.evicted()).unwrap();
    assert!((40..70).contains(&evicted), "{evicted}");
    for (index, attempt) in attempts.iter().enumerate() {
        assert_eq!(is_stored(&store, attempt).await, index >= evicted, "number {index}");
    }
    assert!(is_held(store.renew(&running, LONG).await), "a claim is not evicted");
    let warning = "raise `SqliteStore`'s `max_bytes`";
    assert!(events.at(Level::WARN).iter().any(|message| message.contains(warning)));
}

#[tokio::test]
async fn a_restart_goes_on_counting() {
    let disk = Disk::new();
    let store = limited(&disk, 64 << 10).await;
    let mut attempts = Vec::new();
    for _ in 0..30 {
        attempts.push(stored_as(&store, KIB, LONG).await);
    }
    assert_eq!(store.evicted(), 0);
    store.close().await;
    let store = limited(&disk, 64 << 10).await;
    for _ in 0..30 {
        attempts.push(stored_as(&store, KIB, LONG).await);
    }
    let evicted = usize::try_from(store.evicted()).unwrap();
    assert!(evicted > 0);
    assert!(!is_stored(&store, &attempts[evicted - 1]).await);
    assert!(is_stored(&store, &attempts[evicted]).await);
}

#[tokio::test]
async fn what_is_larger_than_the_limit_can_never_be_stored() {
    let disk = Disk::new();
    let store = limited(&disk, 64 << 10).await;
    let (kept, attempt) = (stored(&store).await, claimed(&store).await);
    let error = store.complete(&attempt, Bytes::from(vec![0; 64 << 10]), LONG).await.unwrap_err();
    assert_eq!(error.to_string(), "the record is larger than the idempotency store allows");
    assert_stored(&store, kept.key).await;
    assert!(is_held(store.complete(&attempt, KIB, LONG).await), "a note takes its place");
}

#[tokio::test]
async fn a_key_that_expired_is_stored_again_and_counted_once() {
    let disk = Disk::new();
    let store = limited(&disk, 64 << 10).await;
    let attempt = stored_as(&store, KIB, Duration::from_millis(1)).await;
    for _ in 0..100 {
        let again = at(attempt.key);
        until("it expires", async || claim(&store, &again).await == Claim::Claimed { lease: None })
            .await;
        assert!(is_held(store.complete(&again, KIB, Duration::from_millis(1)).await));
    }
    assert_eq!(store.evicted(), 0);
}

/// Records of 4 KiB that expired long ago.
const EXPIRED: &str =
    "INSERT INTO idempotency_keys (key, fingerprint, token, operation, record, expires)
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
    SELECT randomblob(16), zeroblob(16), zeroblob(16), 'other', zeroblob(4096), i FROM n";

#[tokio::test]
async fn expired_records_are_deleted_and_the_file_shrinks() {
    let disk = Disk::new();
    let store = open(&disk).await;
    let kept = stored(&store).await;
    store.close().await;
    let mut other = shell(&file(&disk)).await;
    execute(&mut other, EXPIRED).await;
    execute(&mut other, "PRAGMA wal_checkpoint(TRUNCATE)").await;
    let size = || fs::metadata(file(&disk)).unwrap().len();
    let before = size();

    let store = open(&disk).await;
    until("only the live one is left", async || {
        number(&mut other, "SELECT count(*) FROM idempotency_keys").await == 1
    })
    .await;
    assert_stored(&store, kept.key).await;
    until("few pages are free", async || {
        number(&mut other, "SELECT freelist_count FROM pragma_freelist_count").await <= 1024
    })
    .await;
    other.close().await.unwrap();
    store.close().await;
    assert!(size() < before / 2, "{} bytes of {before}", size());
    assert_stored(&open(&disk).await, kept.key).await;
}

#[tokio::test]
async fn nobody_waits_until_all_that_has_expired_is_gone() {
    let disk = Disk::new();
    let store = open(&disk).await;
    let attempt = claimed(&store).await;
    let mut other = shell(&file(&disk)).await;
    let count = "CREATE TABLE seen (rows INTEGER);
        CREATE TRIGGER count AFTER INSERT ON idempotency_keys WHEN new.expires > 3000
        BEGIN INSERT INTO seen SELECT count(*) FROM idempotency_keys; END";
    execute(&mut other, count).await;
    execute(&mut other, &format!("BEGIN IMMEDIATE; {EXPIRED}")).await;
    let storing = tokio::spawn({
        let (store, attempt) = (store.clone(), attempt.clone());
        async move { is_held(store.complete(&attempt, KIB, LONG).await) }
    });
    tokio::task::yield_now().await;
    execute(&mut other, "COMMIT").await;
    assert!(storing.await.unwrap());
    let seen = number(&mut other, "SELECT rows FROM seen").await;
    assert!(seen > 2000, "{seen} of 3000 were there as it was stored");
}
