//! A copy never outlives the record it copies, nor 10 minutes. Time only passes when the test
//! advances it, and never for the store, so that only the copy can expire.

use std::time::Duration;

use idempotent_axum::{Decision, Replayed, StoreVerb};
use idempotent_test_support::{Fault, fresh_key};
use tokio::time::advance;

use super::{from_store, near, two};

const TTL: Duration = Duration::from_secs(90);
const LONGEST: Duration = Duration::from_secs(600);
/// How much a store may round off, and how far the test stays away from the limit.
const MARGIN: Duration = Duration::from_millis(3);

#[tokio::test(start_paused = true)]
async fn a_copy_ends_with_its_ttl_and_after_ten_minutes_at_the_latest() {
    for (path, lifetime) in [("/short", TTL), ("/pay", LONGEST)] {
        let (_, one, other, app) = two();
        let key = fresh_key();
        assert_eq!(one.send(path, &key, "").await.text(), "run 1");
        // Its own copy is of what it stored; the other's is of its first replay, whose `expires_in`
        // is the whole ttl.
        assert_eq!(other.replay(path, &key, "").await, from_store("run 1"));
        for instance in [&one, &other] {
            instance.calls();
        }
        // Looked at in between, it lives no longer.
        for part in [lifetime / 2, (lifetime / 2).saturating_sub(MARGIN)] {
            advance(part).await;
            for instance in [&one, &other] {
                assert_eq!(instance.replay(path, &key, "").await, near("run 1"));
                assert_eq!(instance.calls(), []);
            }
        }
        advance(MARGIN).await;
        for instance in [&one, &other] {
            assert_eq!(instance.replay(path, &key, "").await, from_store("run 1"));
            assert_eq!(instance.calls(), [StoreVerb::Claim]);
            // That was a first replay again.
            assert_eq!(instance.replay(path, &key, "").await, near("run 1"));
        }
        assert_eq!(app.runs.count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn its_time_counts_from_before_the_call_that_stored_it() {
    let (store, one, _, _) = two();
    let (key, complete) = (fresh_key(), store.complete.hold());
    // Within `store_timeout`.
    let slow = Duration::from_secs(1);
    let asked = one.send("/short", &key, "");
    let answered = async {
        complete.arrived.reaches(1).await;
        advance(slow).await;
        complete.open(1);
    };
    let (answer, ()) = tokio::join!(asked, answered);
    assert_eq!(answer.text(), "run 1");
    advance(TTL.saturating_sub(slow + MARGIN)).await;
    assert_eq!(one.replay("/short", &key, "").await, near("run 1"));
    advance(MARGIN).await;
    assert_eq!(one.replay("/short", &key, "").await, from_store("run 1"));
}

#[tokio::test(start_paused = true)]
async fn its_time_counts_from_before_the_call_that_said_what_is_left() {
    let (store, one, other, _) = two();
    let key = fresh_key();
    assert_eq!(one.send("/short", &key, "").await.text(), "run 1");
    let (claim, slow) = (store.claim.hold(), Duration::from_secs(1));
    let asked = other.replay("/short", &key, "");
    let answered = async {
        claim.arrived.reaches(1).await;
        advance(slow).await;
        claim.open_for_good();
    };
    let (replay, ()) = tokio::join!(asked, answered);
    assert_eq!(replay, from_store("run 1"));
    advance(TTL.saturating_sub(slow + MARGIN)).await;
    assert_eq!(other.replay("/short", &key, "").await, near("run 1"));
    advance(MARGIN).await;
    assert_eq!(other.replay("/short", &key, "").await, from_store("run 1"));
}

/// A call whose answer is lost may have stored it: that is why a later call gets `Held`.
#[tokio::test(start_paused = true)]
async fn stored_in_the_background_its_time_counts_from_the_first_try() {
    let (store, one, _, _) = two();
    let key = fresh_key();
    store.complete.next([Fault::FailsAfter; 5]);
    let since = tokio::time::Instant::now();
    assert_eq!(one.send("/short", &key, "").await.text(), "run 1");
    one.idempotency.drain().await;
    assert_eq!(store.complete.begun.get(), 6);
    let late = since.elapsed();
    assert!(late > 10 * MARGIN, "the tries have pauses: {late:?}");
    advance(TTL.saturating_sub(late + MARGIN)).await;
    assert_eq!(one.replay("/short", &key, "").await, near("run 1"));
    advance(MARGIN).await;
    assert_eq!(one.replay("/short", &key, "").await, from_store("run 1"));
}

#[tokio::test(start_paused = true)]
async fn what_is_about_to_expire_is_not_copied() {
    let (_, one, _, _) = two();
    let key = fresh_key();
    let job = || one.key(&key).ttl(Duration::from_millis(2));
    for replayed in [false, true, true] {
        let done = job().run(|_| async { Ok::<_, ()>(7) }).await.unwrap();
        assert_eq!((done.value, done.replayed), (7, replayed));
    }
    let near = Decision::Replayed(Replayed::Near);
    assert!(!one.told.lock().unwrap().contains(&near));
}
