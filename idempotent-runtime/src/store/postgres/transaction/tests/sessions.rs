//! The sessions of transactions: what is set in them, and how many there are.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Row as _};
use test_servers::Postgres;

use super::{
    Begun, Isolation, LONG, NOTE, Transaction, Wanted, begin, begin_as, claimed, fresh, run,
    store_with, wanted,
};
use crate::{Claim, PostgresStore, Store as _};

async fn show(transaction: &mut Transaction, setting: &str) -> String {
    let sql = AssertSqlSafe(format!("SELECT current_setting('{setting}')"));
    let row = sqlx::raw_sql(sql).fetch_one(&mut **transaction).await.expect("a setting");
    row.get(0)
}

#[tokio::test]
async fn a_claim_ends_with_the_verbs_limit_and_the_handlers_statements_do_not() {
    let limit = Duration::from_millis(100);
    let store = store_with(PostgresStore::builder().statement_timeout(limit)).await;
    let attempt = fresh();
    let mut transaction = claimed(&store, &attempt).await;
    assert_eq!(show(&mut transaction, "statement_timeout").await, "0");
    transaction.roll_back().await.unwrap();
    let without_a_claim =
        Wanted { is_claim_next: false, ..wanted(Isolation::ReadCommitted, &fresh()) };
    let mut transaction = begin(&store, without_a_claim).await;
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
    let mut transaction = begin_as(&store, Isolation::ReadCommitted, &fresh()).await;
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
    // The same session again: the server asks the kernel for its value.
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
    let third = store.begin(wanted(Isolation::ReadCommitted, &fresh()), short).await;
    assert!(matches!(third, Ok(Begun::NoneFree)));
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
