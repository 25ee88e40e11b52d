//! Full disks, and other programs that write to the file.

use bytes::Bytes;
use idempotent_runtime::{Attempt, Claim, Hold, KeyState, SqliteStore, Store, StoreError};
use idempotent_test_support::chain;
use test_servers::{Disk, SlowDisk};
use tokio::task::{JoinHandle, block_in_place};

use super::{LONG, assert_stored, claim, claimed, execute, file, open, shell, stored, until};
use crate::{RECORD, at, fresh, is_held};

const LARGE: Bytes = Bytes::from_static(&[7; 64 << 10]);

#[tokio::test]
async fn a_full_disk_loses_nothing_and_with_room_again_it_goes_on() {
    let disk = Disk::small();
    let store = open(&disk).await;
    let kept = stored(&store).await;
    let (running, released) = (claimed(&store).await, claimed(&store).await);
    disk.fill();
    // What still fits into the WAL is stored.
    let error = loop {
        let attempt = claimed(&store).await;
        if let Err(error) = store.complete(&attempt, LARGE, LONG).await {
            break chain(&error);
        }
    };
    assert!(
        error
            .contains("cannot grow because its disk is full: make room; stored responses are kept"),
        "{error}"
    );
    store.complete(&running, LARGE, LONG).await.expect_err("there is no room");
    store.complete(&released, LARGE, LONG).await.expect_err("there is no room");

    assert_stored(&store, kept.key).await;
    assert!(is_held(store.renew(&running, LONG).await), "the claim is as it was");
    assert!(matches!(claim(&store, &at(running.key)).await, Claim::Running { .. }));
    store.release(&released).await.unwrap();
    assert_eq!(store.read(released.key).await.unwrap(), KeyState::Absent);
    let error = chain(&store.claim(&at(released.key), LONG).await.unwrap_err());
    assert!(error.contains("its disk is full"), "nothing runs whose record has no room: {error}");

    disk.free();
    assert!(is_held(store.complete(&running, RECORD, LONG).await));
    claimed(&store).await;
    store.close().await;
    let store = open(&disk).await;
    for attempt in [kept, running] {
        assert_stored(&store, attempt.key).await;
    }
    assert_eq!(store.read(released.key).await.unwrap(), KeyState::Absent);
}

/// Stores a record in its own task, which has begun.
async fn storing(store: &SqliteStore, attempt: &Attempt) -> JoinHandle<Result<Hold, StoreError>> {
    let (store, attempt) = (store.clone(), attempt.clone());
    let storing = tokio::spawn(async move { store.complete(&attempt, RECORD, LONG).await });
    tokio::task::yield_now().await;
    storing
}

#[tokio::test]
async fn another_program_that_writes_is_named_and_waited_for() {
    let disk = Disk::new();
    let store = open(&disk).await;
    let (kept, attempt) = (stored(&store).await, claimed(&store).await);
    let mut other = shell(&file(&disk)).await;
    execute(&mut other, "BEGIN IMMEDIATE").await;
    let storing = storing(&store, &attempt).await;
    until("it is noticed", async || match store.claim(&fresh(), LONG).await {
        Ok(_) => false,
        Err(error) => {
            let error = chain(&error);
            assert!(error.contains("is locked by another program, which has begun to"), "{error}");
            true
        }
    })
    .await;
    assert_stored(&store, kept.key).await;
    execute(&mut other, "ROLLBACK").await;
    assert!(is_held(storing.await.unwrap()));
    assert_stored(&store, attempt.key).await;
    claimed(&store).await;
}

#[tokio::test]
async fn a_release_waits_for_a_record_on_its_way() {
    let disk = Disk::new();
    let store = open(&disk).await;
    let attempt = claimed(&store).await;
    let mut other = shell(&file(&disk)).await;
    execute(&mut other, "BEGIN IMMEDIATE").await;
    let storing = storing(&store, &attempt).await;
    let releasing = tokio::spawn({
        let (store, attempt) = (store.clone(), attempt.clone());
        async move { store.release(&attempt).await }
    });
    tokio::task::yield_now().await;
    assert!(matches!(claim(&store, &at(attempt.key)).await, Claim::Running { .. }), "not yet");
    execute(&mut other, "ROLLBACK").await;
    assert!(is_held(storing.await.unwrap()));
    releasing.await.unwrap().unwrap();
    assert_stored(&store, attempt.key).await;
}

#[tokio::test]
async fn a_store_that_is_closed_waits_for_no_other_program() {
    let disk = Disk::new();
    let store = open(&disk).await;
    let attempt = claimed(&store).await;
    let mut other = shell(&file(&disk)).await;
    execute(&mut other, "BEGIN IMMEDIATE").await;
    let storing = storing(&store, &attempt).await;
    store.close().await;
    storing.await.unwrap().expect_err("another program has the lock");
    execute(&mut other, "ROLLBACK").await;
    claimed(&open(&disk).await).await;
}

#[tokio::test]
async fn new_keys_are_claimed_again_once_something_can_be_written_whoever_asks() {
    let disk = Disk::small();
    let store = open(&disk).await;
    let attempt = claimed(&store).await;
    disk.fill();
    store.complete(&attempt, LARGE, LONG).await.expect_err("there is no room");
    store.claim(&fresh(), LONG).await.expect_err("its record could not be stored");
    disk.free();
    until("a key can be claimed", async || store.claim(&fresh(), LONG).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_is_given_nothing_new_and_keeps_what_it_was_given() {
    let disk = SlowDisk::new();
    let path = disk.path().join("idempotency.db");
    let store = SqliteStore::connect(&path).await.expect("it opens");
    let (kept, attempt) = (stored(&store).await, claimed(&store).await);
    block_in_place(|| disk.pause(None));
    let storing = tokio::spawn({
        let (store, attempt) = (store.clone(), attempt.clone());
        async move { is_held(store.complete(&attempt, RECORD, LONG).await) }
    });
    until("it is noticed", async || match store.claim(&fresh(), LONG).await {
        Ok(_) => false,
        Err(error) => {
            let error = chain(&error);
            assert!(error.contains("check its disk, which hangs"), "{error}");
            true
        }
    })
    .await;
    assert!(matches!(claim(&store, &at(attempt.key)).await, Claim::Running { .. }));
    block_in_place(|| disk.resume());
    assert!(storing.await.unwrap());
    claimed(&store).await;
    store.close().await;
    let store = SqliteStore::connect(&path).await.expect("it opens again");
    for attempt in [kept, attempt] {
        assert_stored(&store, attempt.key).await;
    }
}
