//! The bytes a key takes in each store: the figures that "Choosing a store" calculates with.
#![cfg(all(feature = "memory", feature = "redis", feature = "postgres", feature = "sqlite"))]

use std::time::Duration;

use bytes::Bytes;
use idempotent_axum::{
    Attempt, Fingerprint, Hold, MemoryStore, PostgresStore, RedisStore, SqliteStore,
    SqliteSynchronous, Store, StoreKey, Token,
};
use test_servers::{Disk, Postgres, Redis};

const PAGE: &str = include_str!("../../docs/choosing-a-store.md");
/// For a response of some 200 bytes with a few headers.
const RECORD: usize = 300;
const KEYS: usize = 4000;
const LONG: Duration = Duration::from_secs(3600);

/// Claims [`KEYS`] keys, and stores `record` under each if there is one.
async fn fill(store: &impl Store, record: Option<Bytes>) {
    for _ in 0..KEYS {
        let key = StoreKey::from_bytes(uuid::Uuid::new_v4().into_bytes());
        let fingerprint = Fingerprint::from_bytes(uuid::Uuid::new_v4().into_bytes());
        let attempt = Attempt::new(key, fingerprint, Token::random());
        store.claim(&attempt, LONG).await.unwrap();
        if let Some(record) = record.clone() {
            assert_eq!(store.complete(&attempt, record, LONG).await.unwrap(), Hold::Held);
        }
    }
}

/// Bytes that do not compress.
fn record() -> Bytes {
    let random = std::iter::repeat_with(|| uuid::Uuid::new_v4().into_bytes()).flatten();
    random.take(RECORD).collect()
}

/// Asserts that the page's figure for `what` is `bytes`, within what releases differ by.
fn assert_documented(what: &str, bytes: usize) {
    let row = PAGE.lines().find(|line| line.contains(what)).expect("the page says so");
    let figure = row.split('|').rev().find_map(|cell| cell.trim().strip_suffix(" B"));
    let figure: usize = figure.expect("a row ends with bytes").parse().expect("a number");
    println!("{what}: {bytes} bytes");
    let near = figure * 3 / 4..figure * 5 / 4;
    assert!(near.contains(&bytes), "{what}: {bytes} bytes, not {figure}");
}

#[tokio::test]
async fn a_key_takes_what_the_page_says_in_memory() {
    let store = MemoryStore::new();
    fill(&store, Some(record())).await;
    let bytes = usize::try_from(store.stored_bytes()).unwrap() / KEYS;
    assert_documented("memory, a response", bytes);
    let held = (64 << 20) / bytes / 1000;
    assert!(PAGE.contains(&format!("holds 64 MiB by default: {held} 000 such responses")));
}

fn used(redis: &Redis) -> usize {
    let info = redis.cli(&["INFO", "memory"]);
    let used = info.lines().find_map(|line| line.trim().strip_prefix("used_memory:"));
    used.expect("it tells its memory").parse().expect("a number")
}

#[tokio::test]
async fn a_key_takes_what_the_page_says_in_redis() {
    let redis = Redis::start();
    let store = RedisStore::connect(redis.url()).await.unwrap();
    for (what, record) in [("Redis, a claim", None), ("Redis, a response", Some(record()))] {
        let before = used(&redis);
        fill(&store, record).await;
        assert_documented(what, (used(&redis) - before) / KEYS);
    }
}

#[tokio::test]
async fn a_key_takes_what_the_page_says_in_postgres() {
    let postgres = Postgres::start_with(&["synchronous_commit=off", "autovacuum=off"]);
    for (what, record) in
        [("PostgreSQL, a claim", None), ("PostgreSQL, a response", Some(record()))]
    {
        let table = format!("t{}", uuid::Uuid::new_v4().simple());
        let store = PostgresStore::builder().table(&table).connect(&postgres.url()).await.unwrap();
        store.migrate().await.unwrap();
        fill(&store, record).await;
        // As autovacuum eventually leaves it: without the claims that the records replaced.
        postgres.execute(&format!("VACUUM FULL {table}"));
        let size = postgres.execute(&format!("SELECT pg_total_relation_size('{table}')"));
        let size: usize = size.parse().expect("a number");
        assert_documented(what, size / KEYS);
    }
}

#[tokio::test]
async fn a_key_takes_what_the_page_says_in_sqlite() {
    let disk = Disk::new();
    let path = disk.path().join("idempotency.db");
    let store = SqliteStore::builder().synchronous(SqliteSynchronous::Normal);
    let store = store.connect(&path).await.unwrap();
    fill(&store, Some(record())).await;
    // So that the log is copied into the file.
    store.close().await;
    let size = usize::try_from(std::fs::metadata(&path).unwrap().len()).unwrap();
    assert_documented("SQLite, a response", size / KEYS);
}
