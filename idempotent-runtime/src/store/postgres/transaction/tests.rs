//! Transactions on a real server, beside each other and beside the verbs.

use std::{
    pin::pin,
    sync::LazyLock,
    time::{Duration, Instant},
};

use bytes::Bytes;
use idempotent_test_support::{PATIENCE, is_pending};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use test_servers::Postgres;
use tokio::time::timeout;

use super::{Begun, Failure, Fate, Isolation, Transaction};
use crate::{
    Attempt, Claim, Fingerprint, Forgotten, Hold, KeyState, PostgresStore, PostgresStoreBuilder,
    Store as _, StoreKey, Token,
};

static SHARED: LazyLock<Postgres> = LazyLock::new(Postgres::start);

const LONG: Duration = Duration::from_mins(10);
const NOTE: &[u8] = b"unknown";
const RECORD: Bytes = Bytes::from_static(b"record");
const IN_TRANSACTION: KeyState = KeyState::Running { fingerprint: None, lease_left: None };

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

async fn try_begin(
    store: &PostgresStore,
    isolation: Isolation,
    mark: Token,
    limit: Duration,
) -> Option<Transaction> {
    match store.begin(isolation, mark, LONG, limit).await.expect("the server answers") {
        Begun::Open(transaction) => Some(transaction),
        Begun::NoneFree => None,
    }
}

async fn begin_as(store: &PostgresStore, isolation: Isolation, attempt: &Attempt) -> Transaction {
    let begun = try_begin(store, isolation, attempt.token, PATIENCE).await;
    begun.expect("a transaction is free")
}

/// The attempt's transaction; whether it has claimed the key.
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

async fn show(transaction: &mut Transaction, setting: &str) -> String {
    let sql = AssertSqlSafe(format!("SELECT current_setting('{setting}')"));
    let row = sqlx::raw_sql(sql).fetch_one(&mut **transaction).await.expect("a setting");
    row.get(0)
}

/// Looks until `key` is so.
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

#[tokio::test]
async fn a_key_that_a_transaction_has_is_running_and_holds_nobody_up() {
    let store = store().await;
    let attempt = fresh();
    let mut transaction = claimed(&store, &attempt).await;
    let other = again(attempt.key);
    // A statement that waited for the row would do so until the transaction ends.
    let found = timeout(PATIENCE, store.claim(&other, LONG)).await.expect("no wait").unwrap();
    assert_eq!(found, Claim::Running { fingerprint: None, lease_left: None });
    assert_eq!(store.read(attempt.key).await.unwrap(), IN_TRANSACTION);
    for even_if_running in [false, true] {
        let forgotten = store.forget(attempt.key, even_if_running).await.unwrap();
        assert_eq!(forgotten, Forgotten::StillRunning { lease_left: None });
    }
    assert_eq!(store.renew(&other, LONG).await.unwrap(), Hold::Lost);
    assert_eq!(store.complete(&other, RECORD, LONG).await.unwrap(), Hold::Lost);
    store.release(&other).await.unwrap();
    let (second, is_claimed) = claim(&store, &other).await;
    assert!(!is_claimed);
    second.roll_back().await.unwrap();

    transaction.record(&attempt, &RECORD, LONG).await.unwrap();
    assert_eq!(store.read(attempt.key).await.unwrap(), IN_TRANSACTION);
    transaction.commit().await.unwrap();
    assert!(holds(&store.read(attempt.key).await.unwrap(), &RECORD));
    let (third, is_claimed) = claim(&store, &again(attempt.key)).await;
    assert!(!is_claimed, "a record stays");
    third.roll_back().await.unwrap();
}

#[tokio::test]
async fn a_wait_lasts_as_long_as_the_transaction() {
    let store = store().await;
    let attempt = fresh();
    let transaction = claimed(&store, &attempt).await;
    let waits = {
        let (store, key) = (store.clone(), attempt.key);
        tokio::spawn(async move { store.wait(key, PATIENCE * 2).await })
    };
    // Ten polls of the same kind: it would have ended by now.
    for _ in 0..10 {
        store.wait(attempt.key, Duration::from_millis(20)).await;
    }
    assert!(!waits.is_finished());
    transaction.roll_back().await.unwrap();
    timeout(PATIENCE, waits).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn what_is_rolled_back_or_dropped_leaves_the_key_free() {
    let store = store().await;
    let attempt = fresh();
    claimed(&store, &attempt).await.roll_back().await.unwrap();
    assert_eq!(store.read(attempt.key).await.unwrap(), KeyState::Absent);
    drop(claimed(&store, &attempt).await);
    until(&store, attempt.key, |state| *state == KeyState::Absent).await;
    let mut recorded = claimed(&store, &attempt).await;
    recorded.record(&attempt, &RECORD, LONG).await.unwrap();
    drop(recorded);
    until(&store, attempt.key, |state| *state == KeyState::Absent).await;
}

#[tokio::test]
async fn a_live_claim_stops_a_transaction_and_a_lapsed_one_does_not() {
    let store = store().await;
    let plain = fresh();
    store.claim(&plain, LONG).await.unwrap();
    let (transaction, is_claimed) = claim(&store, &again(plain.key)).await;
    assert!(!is_claimed);
    transaction.roll_back().await.unwrap();
    assert_eq!(store.complete(&plain, RECORD, LONG).await.unwrap(), Hold::Held);

    let lapsed = fresh();
    store.claim(&lapsed, Duration::from_millis(1)).await.unwrap();
    until(&store, lapsed.key, |state| *state == KeyState::Absent).await;
    let attempt = again(lapsed.key);
    let mut transaction = claimed(&store, &attempt).await;
    // Its row is there, and locked.
    for _ in 0..2 {
        let late = async {
            assert_eq!(store.renew(&lapsed, LONG).await.unwrap(), Hold::Lost);
            assert_eq!(store.complete(&lapsed, RECORD, LONG).await.unwrap(), Hold::Lost);
            store.release(&lapsed).await.unwrap();
        };
        timeout(PATIENCE, late).await.expect("nobody waits for the transaction");
    }
    transaction.record(&attempt, &RECORD, LONG).await.unwrap();
    transaction.commit().await.unwrap();
    assert!(holds(&store.read(attempt.key).await.unwrap(), &RECORD));
}

/// What a handler may do with its transaction, and what the key holds afterwards.
async fn ended_by(sql: &str) -> KeyState {
    let store = store().await;
    let attempt = fresh();
    let mut transaction = claimed(&store, &attempt).await;
    run(&mut transaction, sql).await;
    let recorded = transaction.record(&attempt, &RECORD, LONG).await;
    assert!(matches!(recorded, Err(Failure::Ended)), "{sql}: {recorded:?}");
    let checked = transaction.check().await;
    assert!(matches!(checked, Err(Failure::Ended)), "{sql}: {checked:?}");
    drop(transaction);
    store.read(attempt.key).await.unwrap()
}

#[tokio::test]
async fn a_handlers_own_commit_leaves_the_note_whatever_it_begins_afterwards() {
    let others = "SET LOCAL idempotent_axum.tx = 'another'";
    for sql in ["COMMIT", "COMMIT; BEGIN", "COMMIT AND CHAIN", &format!("COMMIT; BEGIN; {others}")]
    {
        assert!(holds(&ended_by(sql).await, NOTE), "{sql}");
    }
    for sql in ["ROLLBACK", "ROLLBACK; BEGIN", "ROLLBACK AND CHAIN"] {
        assert_eq!(ended_by(sql).await, KeyState::Absent, "{sql}");
    }
}

#[tokio::test]
async fn a_savepoint_that_is_left_open_or_a_rollback_that_is_on_its_way_is_noticed() {
    let store = store().await;
    let attempt = fresh();
    let mut transaction = claimed(&store, &attempt).await;
    std::mem::forget(transaction.begin().await.unwrap());
    let recorded = transaction.record(&attempt, &RECORD, LONG).await;
    assert!(matches!(recorded, Err(Failure::Lasting(_))), "{recorded:?}");
    transaction.roll_back().await.unwrap();
    until(&store, attempt.key, |state| *state == KeyState::Absent).await;

    let attempt = fresh();
    let mut transaction = claimed(&store, &attempt).await;
    // sqlx rolls all of it back if a savepoint is given up that has not begun.
    while !is_pending(pin!(transaction.begin())).await {}
    let recorded = transaction.record(&attempt, &RECORD, LONG).await;
    assert!(matches!(recorded, Err(Failure::Ended)), "{recorded:?}");
}

#[tokio::test]
async fn an_aborted_transaction_is_noticed_before_it_is_committed() {
    let store = store().await;
    let attempt = fresh();
    let mut transaction = claimed(&store, &attempt).await;
    sqlx::raw_sql("SELECT 1 / 0").execute(&mut *transaction).await.expect_err("it fails");
    let checked = transaction.check().await;
    assert!(matches!(checked, Err(Failure::Lasting(_))), "{checked:?}");
    let recorded = transaction.record(&attempt, &RECORD, LONG).await;
    assert!(matches!(recorded, Err(Failure::Lasting(_))), "{recorded:?}");
    transaction.roll_back().await.unwrap();
    assert_eq!(store.read(attempt.key).await.unwrap(), KeyState::Absent);
}

#[tokio::test]
async fn a_snapshot_older_than_a_record_claims_nothing() {
    let store = store().await;
    for isolation in [Isolation::RepeatableRead, Isolation::Serializable] {
        let attempt = fresh();
        let mut late = begin_as(&store, isolation, &attempt).await;
        run(&mut late, "SELECT 1").await;
        let first = again(attempt.key);
        let mut transaction = claimed(&store, &first).await;
        transaction.record(&first, &RECORD, LONG).await.unwrap();
        transaction.commit().await.unwrap();
        assert!(!late.claim(&attempt, NOTE, LONG).await.unwrap(), "{isolation:?}");
    }
}

#[tokio::test]
async fn a_claim_ends_with_the_verbs_limit_and_the_handlers_statements_do_not() {
    let limit = Duration::from_millis(100);
    let store = store_with(PostgresStore::builder().statement_timeout(limit)).await;
    let attempt = fresh();
    let mut transaction = claimed(&store, &attempt).await;
    assert_eq!(show(&mut transaction, "statement_timeout").await, "0");
    transaction.roll_back().await.unwrap();

    let blocker = claimed(&store, &fresh()).await;
    let lock = format!("LOCK TABLE {}", store.inner.table);
    let mut blocker = blocker;
    run(&mut blocker, &lock).await;
    let mut waits = begin_as(&store, Isolation::ReadCommitted, &attempt).await;
    let error = waits.claim(&attempt, NOTE, LONG).await.expect_err("the table is locked");
    assert!(error.to_string().contains("statement_timeout"), "{error}");
}

#[tokio::test]
async fn the_server_looks_for_vanished_clients_and_only_for_as_long_as_it_takes() {
    let store = store_with(PostgresStore::builder().max_transactions(1)).await;
    let lease = Duration::from_secs(30);
    let begun = store.begin(Isolation::ReadCommitted, Token::random(), lease, PATIENCE).await;
    let Ok(Begun::Open(mut transaction)) = begun else { panic!("it begins") };
    let mut settings = Vec::new();
    for name in [
        "tcp_keepalives_idle",
        "tcp_keepalives_interval",
        "tcp_keepalives_count",
        "tcp_user_timeout",
    ] {
        settings.push(show(&mut transaction, name).await);
    }
    assert_eq!(settings, ["10", "5", "4", "30000"]);
    transaction.roll_back().await.unwrap();
    // The same session again, of which the server asks the kernel.
    let mut next = begin_as(&store, Isolation::ReadCommitted, &fresh()).await;
    run(&mut next, "ROLLBACK").await;
    assert_eq!(show(&mut next, "tcp_user_timeout").await, "0");
}

#[tokio::test]
async fn so_many_run_at_once_and_the_verbs_run_beside_them() {
    let store = store_with(PostgresStore::builder().max_transactions(2)).await;
    let (one, other) = (fresh(), fresh());
    let (first, second) = (claimed(&store, &one).await, claimed(&store, &other).await);
    let short = Duration::from_millis(20);
    let none = try_begin(&store, Isolation::ReadCommitted, Token::random(), short).await;
    assert!(none.is_none());
    for _ in 0..30 {
        assert!(matches!(store.claim(&fresh(), LONG).await.unwrap(), Claim::Claimed { .. }));
    }
    drop(first);
    begin_as(&store, Isolation::ReadCommitted, &fresh()).await.roll_back().await.unwrap();
    second.roll_back().await.unwrap();
}

#[tokio::test]
async fn the_first_transactions_after_a_restart_of_the_server_begin() {
    let server = Postgres::start();
    let store = PostgresStore::connect(&server.url()).await.unwrap();
    store.migrate().await.unwrap();
    let open = [fresh(), fresh(), fresh()].map(|attempt| (store.clone(), attempt));
    let mut transactions = Vec::new();
    for (store, attempt) in open {
        transactions.push(claimed(&store, &attempt).await);
    }
    for transaction in transactions {
        transaction.roll_back().await.unwrap();
    }
    server.restart();
    for _ in 0..3 {
        claimed(&store, &fresh()).await.roll_back().await.unwrap();
    }
}

#[tokio::test]
async fn the_server_knows_what_became_of_a_transaction() {
    let store = store().await;
    let attempt = fresh();
    let mut transaction = claimed(&store, &attempt).await;
    let id = transaction.check().await.unwrap().expect("it has written its claim");
    let fates = async || {
        (store.fate_of_attempt(&attempt).await.unwrap(), store.fate_of(&id).await.unwrap())
    };
    assert_eq!(fates().await, (Fate::Open, Fate::Open));
    transaction.record(&attempt, &RECORD, LONG).await.unwrap();
    assert_eq!(fates().await, (Fate::Open, Fate::Open));
    transaction.commit().await.unwrap();
    assert_eq!(fates().await, (Fate::Committed, Fate::Committed));

    let attempt = fresh();
    let mut transaction = claimed(&store, &attempt).await;
    let id = transaction.check().await.unwrap().expect("it has written its claim");
    transaction.roll_back().await.unwrap();
    assert_eq!(store.fate_of_attempt(&attempt).await.unwrap(), Fate::RolledBack);
    assert_eq!(store.fate_of(&id).await.unwrap(), Fate::RolledBack);

    let mut idle = begin_as(&store, Isolation::ReadCommitted, &fresh()).await;
    run(&mut idle, "SELECT 1").await;
    assert!(idle.check().await.unwrap().is_none(), "it has written nothing");
}
