//! The verbs, across restarts and without a caller.

use std::{future::Future, pin::pin, task::Poll, time::Duration};

use idempotent_runtime::{
    Claim, Forgotten, Hold, KeyState, SqliteStore, SqliteSynchronous, Store, testing::conformance,
};
use test_servers::Disk;

use super::{LONG, assert_stored, claim, claimed, execute, file, open, shell, stored, until};
use crate::{RECORD, at, fresh, is_held};

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms() {
    let disk = Disk::new();
    conformance(open(&disk).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms_with_a_limit_and_without_waiting_for_the_disk() {
    let disk = Disk::new();
    let builder = SqliteStore::builder().synchronous(SqliteSynchronous::Normal);
    let store = builder.max_bytes(1 << 30).connect(file(&disk)).await.expect("it opens");
    conformance(store.clone()).await;
    assert_eq!(store.evicted(), 0);
}

#[tokio::test]
async fn a_restart_keeps_what_is_stored_and_frees_what_ran() {
    let disk = Disk::new();
    let store = open(&disk).await;
    let (kept, ran, forgotten) =
        (stored(&store).await, claimed(&store).await, stored(&store).await);
    assert_eq!(store.forget(forgotten.key, false).await.unwrap(), Forgotten::Freed);
    store.close().await;

    let store = open(&disk).await;
    assert_stored(&store, kept.key).await;
    assert!(is_held(store.complete(&kept, RECORD, LONG).await), "it is stored by this token");
    assert_eq!(store.complete(&ran, RECORD, LONG).await.unwrap(), Hold::Lost);
    for key in [ran.key, forgotten.key] {
        assert_eq!(store.read(key).await.unwrap(), KeyState::Absent);
        assert_eq!(claim(&store, &at(key)).await, Claim::Claimed { lease: None });
    }
}

#[tokio::test]
async fn a_store_that_is_closed_says_so_to_its_clones() {
    let disk = Disk::new();
    let store = open(&disk).await;
    let (clone, running) = (store.clone(), claimed(&store).await);
    store.close().await;
    let error = clone.claim(&fresh(), LONG).await.unwrap_err();
    assert!(idempotent_test_support::chain(&error).ends_with("the `SqliteStore` is closed"));
    assert!(clone.complete(&running, RECORD, LONG).await.is_err());
    assert!(clone.forget(fresh().key, true).await.is_err());
    clone.close().await;
    open(&disk).await;
}

/// Polls a call once and drops it, like a caller that goes away; returns whether it had to wait.
async fn begin<F: Future>(call: F) -> bool {
    let mut call = pin!(call);
    std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())).await
}

#[tokio::test]
async fn what_was_asked_for_is_done_without_its_caller() {
    let disk = Disk::new();
    let store = open(&disk).await;
    let (attempt, gone) = (claimed(&store).await, stored(&store).await);
    begin(store.complete(&attempt, RECORD, LONG)).await;
    begin(store.forget(gone.key, false)).await;
    until("it is stored", async || {
        store.wait(attempt.key, LONG).await;
        matches!(store.read(attempt.key).await, Ok(KeyState::Stored { .. }))
    })
    .await;
    assert_stored(&store, attempt.key).await;
    until("it is forgotten", async || store.read(gone.key).await.unwrap() == KeyState::Absent)
        .await;
}

#[tokio::test]
async fn a_claim_whose_caller_goes_is_not_made() {
    let disk = Disk::new();
    let store = open(&disk).await;
    // The disk may be faster.
    let attempt = loop {
        let attempt = fresh();
        if begin(store.claim(&attempt, LONG)).await {
            break attempt;
        }
    };
    assert_eq!(store.read(attempt.key).await.unwrap(), KeyState::Absent);
    assert_eq!(claim(&store, &at(attempt.key)).await, Claim::Claimed { lease: None });
}

#[tokio::test]
async fn nothing_but_storing_and_forgetting_writes() {
    let disk = Disk::new();
    let store = open(&disk).await;
    let kept = stored(&store).await;
    let mut writing = shell(&file(&disk)).await;
    execute(&mut writing, "BEGIN IMMEDIATE").await;
    let attempt = claimed(&store).await;
    assert_stored(&store, kept.key).await;
    assert!(is_held(store.renew(&attempt, LONG).await));
    store.release(&attempt).await.unwrap();
    assert_eq!(claim(&store, &at(attempt.key)).await, Claim::Claimed { lease: None });
    assert_eq!(store.forget(attempt.key, true).await.unwrap(), Forgotten::Freed);
}

#[test]
fn a_store_outlives_the_runtime_that_opened_it() {
    let disk = Disk::new();
    let runtime = || tokio::runtime::Runtime::new().expect("threads start");
    let first = runtime();
    let store = first.block_on(open(&disk));
    let attempt = first.block_on(claimed(&store));
    first.shutdown_timeout(Duration::from_secs(10));
    runtime().block_on(async {
        assert!(is_held(store.complete(&attempt, RECORD, LONG).await));
        assert_stored(&store, attempt.key).await;
    });
}
