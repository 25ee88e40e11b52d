//! `FailingStore`: each fault does what it says, to the calls that it is meant for.

use std::time::Duration;

use axum::{Router, extract::State, routing::post as route};
use bytes::Bytes;
use idempotent_axum::{
    Attempt, Fingerprint, Idempotency, KeyState, MemoryStore, Store, StoreKey, Token, idempotent,
    testing::{FailingStore, Fault, assert_executed, assert_replayed},
};
use idempotent_test_support::{Runs, fresh_key, post};
use tokio::time::{Instant, timeout};

const LONG: Duration = Duration::from_secs(3600);

fn store() -> FailingStore<MemoryStore> {
    FailingStore::default()
}

/// An attempt with its own key.
fn attempt() -> Attempt {
    let token = Token::random();
    Attempt::new(StoreKey::from_bytes(*token.as_bytes()), Fingerprint::from_bytes([1; 16]), token)
}

/// What the caller of a `claim` gets, after how many seconds, and whether the claim was made.
async fn claim_under(fault: Fault) -> (String, u64, bool) {
    let (store, attempt, begun) = (store(), attempt(), Instant::now());
    store.claim.next([fault]);
    let got = match timeout(LONG, store.claim(&attempt, LONG)).await {
        Ok(Ok(_)) => "an answer".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "nothing".to_owned(),
    };
    let seconds = begun.elapsed().as_secs();
    let state = store.inner().read(attempt.key).await.expect("`read` works");
    (got, seconds, matches!(state, KeyState::Running { .. }))
}

/// The clock is virtual.
#[tokio::test(start_paused = true)]
async fn a_fault_is_what_it_says() {
    let unsent = "the idempotency store could not be reached";
    let failed = "the idempotency store failed";
    for (fault, got, seconds, is_made) in [
        (Fault::Works, "an answer", 0, true),
        (Fault::NotSent, unsent, 0, false),
        (Fault::Fails, failed, 0, false),
        (Fault::FailsAfter, failed, 0, true),
        (Fault::Hangs, "nothing", 3600, false),
        (Fault::HangsAfter, "nothing", 3600, true),
        (Fault::Late(Duration::from_secs(3)), "an answer", 3, true),
    ] {
        assert_eq!(claim_under(fault).await, (got.to_owned(), seconds, is_made), "{fault:?}");
    }
}

/// Calls each verb once; how many of the six that can fail did.
async fn call_all(store: &impl Store) -> usize {
    let (attempt, record) = (attempt(), Bytes::from_static(b"record"));
    let failed = [
        store.claim(&attempt, LONG).await.is_err(),
        store.renew(&attempt, LONG).await.is_err(),
        store.complete(&attempt, record, LONG).await.is_err(),
        store.release(&attempt).await.is_err(),
        store.read(attempt.key).await.is_err(),
        store.forget(attempt.key, true).await.is_err(),
    ];
    store.wait(attempt.key, LONG).await;
    failed.into_iter().filter(|failed| *failed).count()
}

#[tokio::test]
async fn all_verbs_fail_until_they_are_mended() {
    let store = store();
    let other_handle = store.clone();
    other_handle.always(Fault::NotSent);
    assert_eq!((call_all(&store).await, call_all(&store).await), (6, 6));
    store.mend();
    assert_eq!(call_all(&other_handle).await, 0);
    let FailingStore { claim, renew, complete, release, wait, read, forget, .. } = &store;
    for verb in [claim, renew, complete, release, wait, read, forget] {
        assert_eq!(verb.calls(), 3);
    }
}

#[tokio::test]
async fn a_fault_is_that_of_its_verb_alone() {
    let faults: [fn(&FailingStore<MemoryStore>); 6] = [
        |store| store.claim.always(Fault::Fails),
        |store| store.renew.always(Fault::Fails),
        |store| store.complete.always(Fault::Fails),
        |store| store.release.always(Fault::Fails),
        |store| store.read.always(Fault::Fails),
        |store| store.forget.always(Fault::Fails),
    ];
    for make_fail in faults {
        let store = store();
        make_fail(&store);
        assert_eq!(call_all(&store).await, 1);
    }
}

#[tokio::test]
async fn the_next_calls_fail_in_order_before_all_others_do() {
    let (store, key) = (store(), attempt().key);
    let is_read = async || store.read(key).await.is_ok();
    store.read.always(Fault::Fails);
    store.read.next([Fault::Works, Fault::NotSent]);
    store.read.next([Fault::Works]);
    let read = [is_read().await, is_read().await, is_read().await, is_read().await];
    assert_eq!(read, [true, false, true, false]);
    store.read.next([Fault::Fails; 2]);
    store.read.mend();
    assert!(is_read().await, "what was still to come is forgotten as well");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_fails_returns_early_and_one_that_hangs_does_not_return() {
    let (store, attempt) = (store(), attempt());
    store.claim(&attempt, LONG).await.expect("`claim` works");
    store.wait.next([Fault::Fails, Fault::NotSent]);
    let begun = Instant::now();
    for _ in 0..2 {
        store.wait(attempt.key, LONG).await;
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    store.wait.next([Fault::Hangs]);
    assert!(timeout(2 * LONG, store.wait(attempt.key, LONG)).await.is_err());
}

/// A claim whose answer comes after `store_timeout` was made: it is released in the background.
#[tokio::test(start_paused = true)]
async fn a_claim_that_is_late_frees_its_key() {
    #[idempotent]
    async fn pay(State(runs): State<Runs>) -> String {
        runs.next()
    }
    let store = store();
    let idempotency = Idempotency::new(store.clone()).store_timeout(Duration::from_secs(2));
    let app = Router::new().route("/", route(pay)).layer(idempotency.clone());
    let (app, key) = (app.with_state(Runs::default()), fresh_key());
    let send = async || post("/").key(&key).begin(&app).await;
    store.claim.next([Fault::Late(Duration::from_secs(3))]);
    assert_eq!(send().await.status(), 503);
    idempotency.drain().await;
    assert_ne!(store.release.calls(), 0);
    assert_executed(&send().await);
    // One that is less late than that is an answer.
    store.claim.next([Fault::Late(Duration::from_secs(1))]);
    assert_replayed(&send().await);
}
