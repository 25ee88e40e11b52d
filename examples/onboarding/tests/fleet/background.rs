//! Responses that cannot be stored at once: their callers get them, and storing continues.

use std::time::{Duration, Instant};

use test_servers::Fault;
use tokio::task::block_in_place;

use crate::{
    fleet::{
        Backend, Invite, PATIENCE, STORE_TIMEOUT, exchange, instance, instance_with_lease,
        on_each_store, runs,
    },
    service::{BEGUN, Service},
};

on_each_store! {
    a_response_that_cannot_be_stored_is_sent_and_stored_once_the_store_is_back
    a_response_that_hangs_on_its_way_to_the_store_is_sent_and_stored
    a_response_whose_claim_has_lapsed_meanwhile_is_stored_under_a_new_one
    a_response_that_is_never_stored_holds_the_key_for_its_lease_and_no_longer
}

/// Runs a handler of `far` under a fault on its way to the store; returns its caller's answer.
async fn unstored(far: &Service, invite: &Invite, begin: impl FnOnce()) -> String {
    let caller = tokio::spawn(exchange(invite.request(far)));
    far.logged(BEGUN).await;
    begin();
    let answer = caller.await.expect("the caller does not panic").expect("it answers");
    assert_eq!((answer.status, answer.replayed), (201, false), "the real response");
    answer.body
}

async fn stored_later(backend: &Backend, fault: Fault) {
    let proxy = backend.proxy();
    let near = instance(&backend.url(), "0s").await;
    let far = instance(&backend.url_through(&proxy), "500ms").await;
    let invite = Invite::new();
    let body = unstored(&far, &invite, || proxy.set(fault)).await;
    far.logged("idempotency store unavailable").await;
    let duplicate = tokio::spawn(exchange(invite.request(&near)));
    tokio::time::sleep(STORE_TIMEOUT + Duration::from_millis(500)).await; // longer than one try
    proxy.set(Fault::None);
    let duplicate = duplicate.await.expect("the caller does not panic").expect("it answers");
    assert!(duplicate.replayed, "{duplicate:?}");
    assert_eq!(duplicate.body, body);
    assert_eq!(runs(&invite, &[&near, &far]).await, 1);
}

async fn a_response_that_cannot_be_stored_is_sent_and_stored_once_the_store_is_back(
    backend: Backend,
) {
    stored_later(&backend, Fault::Reset).await;
}

async fn a_response_that_hangs_on_its_way_to_the_store_is_sent_and_stored(backend: Backend) {
    stored_later(&backend, Fault::Stall).await;
}

/// Polls until the store holds this many keys.
async fn holds(backend: &Backend, keys: usize) {
    let since = Instant::now();
    while block_in_place(|| backend.keys()) != keys {
        assert!(since.elapsed() < PATIENCE, "there are never {keys} keys");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn a_response_whose_claim_has_lapsed_meanwhile_is_stored_under_a_new_one(backend: Backend) {
    let proxy = backend.proxy();
    let near = instance(&backend.url(), "0s").await;
    let far = instance_with_lease(&backend.url_through(&proxy), "6s", "8s").await;
    let invite = Invite::new();
    let body = unstored(&far, &invite, || proxy.set(Fault::Reset)).await;
    holds(&backend, 0).await;
    proxy.set(Fault::None);
    holds(&backend, 1).await;
    let replay = invite.to(&near).await;
    assert!(replay.replayed);
    assert_eq!(replay.body, body);
}

async fn a_response_that_is_never_stored_holds_the_key_for_its_lease_and_no_longer(
    backend: Backend,
) {
    let proxy = backend.proxy();
    let near = instance_with_lease(&backend.url(), "0s", "1s").await;
    let far = instance_with_lease(&backend.url_through(&proxy), "500ms", "1s").await;
    let invite = Invite::new();
    let unstored = unstored(&far, &invite, || proxy.set(Fault::Reset)).await;
    let answer = invite.to(&near).await;
    assert_eq!((answer.status, answer.replayed), (201, false), "{answer:?}");
    assert_ne!(answer.body, unstored);
    far.logged("a response could not be stored").await;
    proxy.set(Fault::None);
    let replay = invite.retried(&[&far]).await;
    assert!(replay.replayed);
    assert_eq!(replay.body, answer.body, "the late one has overwritten nothing");
}
