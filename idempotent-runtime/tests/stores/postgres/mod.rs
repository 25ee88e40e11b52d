//! `PostgresStore` on real servers: what it promises, through a pooler too, and what faults do to it.

mod connecting;
mod connections;
mod faults;
mod purge;
mod table;
mod verbs;

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use idempotent_runtime::{
    Attempt, Claim, PostgresStore, PostgresStoreBuilder, Store, StoreKey, Token,
};
use idempotent_test_support::PATIENCE;
use test_servers::Postgres;

use crate::{FINGERPRINT, RECORD, at, fresh, is_held};

/// For tests that use their own table.
static SHARED: LazyLock<Postgres> = LazyLock::new(Postgres::start);

const LONG: Duration = Duration::from_secs(600);

/// A table name that no other test has.
fn fresh_table() -> String {
    format!("keys_{:032x}", u128::from_be_bytes(*Token::random().as_bytes()))
}

async fn store_at(url: &str) -> PostgresStore {
    migrated(PostgresStore::builder().table(fresh_table()), url).await
}

async fn migrated(builder: PostgresStoreBuilder, url: &str) -> PostgresStore {
    let store = builder.connect(url).await.expect("the server is up");
    store.migrate().await.expect("the role may create tables");
    store
}

async fn claim(store: &impl Store, attempt: &Attempt) -> Claim {
    store.claim(attempt, LONG).await.expect("the server answers")
}

fn is_claimed(claim: &Claim) -> bool {
    matches!(claim, Claim::Claimed { .. })
}

async fn claimed(store: &impl Store) -> Attempt {
    let attempt = fresh();
    assert!(is_claimed(&claim(store, &attempt).await));
    attempt
}

async fn stored(store: &impl Store) -> StoreKey {
    let attempt = claimed(store).await;
    assert!(is_held(store.complete(&attempt, RECORD, LONG).await));
    attempt.key
}

#[track_caller]
fn assert_is_record(found: Claim, expected: &[u8]) {
    match found {
        Claim::Stored { fingerprint, record, expires_in } => {
            assert_eq!((fingerprint, &*record), (FINGERPRINT, expected));
            assert!(expires_in <= LONG, "{expires_in:?}");
        }
        found => panic!("the record is there, not {found:?}"),
    }
}

async fn assert_stored(store: &impl Store, key: StoreKey) {
    assert_is_record(claim(store, &at(key)).await, &RECORD);
}

/// Polls until `so` holds.
async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !so().await {
        assert!(start.elapsed() < PATIENCE, "it does not come to be so: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
