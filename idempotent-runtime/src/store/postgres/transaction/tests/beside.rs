//! Transactions alongside each other and alongside the verbs.

use std::time::Duration;

use idempotent_test_support::PATIENCE;
use tokio::time::timeout;

use super::{
    Isolation, LONG, NOTE, RECORD, again, begin_as, claim, claimed, fresh, holds, run, store, until,
};
use crate::{Claim, Forgotten, Hold, KeyState, Store as _};

const IN_TRANSACTION: KeyState = KeyState::Running { fingerprint: None, lease_left: None };

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
    // Its row exists, and is locked.
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
