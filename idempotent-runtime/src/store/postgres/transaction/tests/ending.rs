//! What ends a transaction, and what is known of it afterwards.

use std::pin::pin;

use idempotent_test_support::is_pending;
use sqlx::Connection as _;

use super::{Isolation, LONG, NOTE, RECORD, begin_as, claimed, fresh, holds, run, store, until};
use crate::{
    KeyState, Store as _,
    store::postgres::{Failure, Fate},
};

/// What the key holds after a handler has run `sql` in its transaction.
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
    // sqlx rolls back all of it if a savepoint is abandoned before it has begun.
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
