//! Transactions on a real server.

mod beside;
mod ending;
mod sessions;

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use bytes::Bytes;
use idempotent_test_support::PATIENCE;
use sqlx::AssertSqlSafe;
use test_servers::Postgres;

use super::{Begun, Isolation, Transaction, Wanted};
use crate::{
    Attempt, Fingerprint, KeyState, PostgresStore, PostgresStoreBuilder, Store as _, StoreKey,
    Token,
};

static SHARED: LazyLock<Postgres> = LazyLock::new(Postgres::start);

const LONG: Duration = Duration::from_secs(10 * 60);
const NOTE: &[u8] = b"unknown";
const RECORD: Bytes = Bytes::from_static(b"record");

async fn store_with(builder: PostgresStoreBuilder) -> PostgresStore {
    let table = format!("keys_{:032x}", u128::from_be_bytes(*Token::random().as_bytes()));
    let store = builder.table(table).connect(&SHARED.url()).await.expect("the server is up");
    store.migrate().await.expect("the role may create tables");
    store
}

async fn store() -> PostgresStore {
    store_with(PostgresStore::builder()).await
}

fn fresh() -> Attempt {
    again(StoreKey::from_bytes(*Token::random().as_bytes()))
}

fn again(key: StoreKey) -> Attempt {
    Attempt::new(key, Fingerprint::from_bytes([7; 16]), Token::random())
}

fn wanted(isolation: Isolation, attempt: &Attempt) -> Wanted {
    Wanted { isolation, mark: attempt.token, is_claim_next: true, lease: Duration::from_secs(30) }
}

async fn begin(store: &PostgresStore, wanted: Wanted) -> Transaction {
    match store.begin(wanted, PATIENCE).await.expect("the server answers") {
        Begun::Open(transaction) => transaction,
        Begun::NoneFree => panic!("a transaction is free"),
    }
}

async fn begin_as(store: &PostgresStore, isolation: Isolation, attempt: &Attempt) -> Transaction {
    begin(store, wanted(isolation, attempt)).await
}

/// The attempt's transaction, and whether it has claimed the key.
async fn claim(store: &PostgresStore, attempt: &Attempt) -> (Transaction, bool) {
    let mut transaction = begin_as(store, Isolation::ReadCommitted, attempt).await;
    let is_claimed = transaction.claim(attempt, NOTE, LONG).await.expect("the server answers");
    (transaction, is_claimed)
}

async fn claimed(store: &PostgresStore, attempt: &Attempt) -> Transaction {
    let (transaction, is_claimed) = claim(store, attempt).await;
    assert!(is_claimed);
    transaction
}

async fn run(transaction: &mut Transaction, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    sqlx::raw_sql(sql).execute(&mut **transaction).await.expect("valid SQL");
}

/// Looks until `key` is in that state.
async fn until(store: &PostgresStore, key: StoreKey, so: impl Fn(&KeyState) -> bool) {
    let start = Instant::now();
    loop {
        let state = store.read(key).await.expect("the server answers");
        if so(&state) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "it stays {state:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn holds(state: &KeyState, expected: &[u8]) -> bool {
    matches!(state, KeyState::Stored { record, .. } if record == expected)
}
