//! Claims and their leases: who keeps one, who loses it, and when the next one has it.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::{
    fleet::{Backend, Invite, SLACK, exchange, instance, instance_with_lease, on_each_store, runs},
    service::{BEGUN, ENTITIES, Service, header, send},
};

on_each_store! {
    a_paused_instance_overwrites_nothing_and_its_caller_gets_what_the_store_holds
    a_paused_instance_waits_for_the_one_that_took_over
    a_dead_instances_key_is_free_after_one_lease_and_not_before
    a_handler_longer_than_its_lease_keeps_it
    the_stores_clock_decides_not_an_instances
}

const LEASE: Duration = Duration::from_secs(1);

async fn a_paused_instance_overwrites_nothing_and_its_caller_gets_what_the_store_holds(
    backend: Backend,
) {
    let url = backend.url();
    let paused = instance_with_lease(&url, "500ms", "1s").await;
    let other = instance_with_lease(&url, "0s", "1s").await;
    let invite = Invite::new();
    let claimed = Instant::now();
    let caller = tokio::spawn(exchange(invite.request(&paused)));
    paused.logged(BEGUN).await;
    paused.signal("STOP").await;

    let answer = invite.to(&other).await;
    assert!(claimed.elapsed() >= LEASE, "taken over after {:?}", claimed.elapsed());
    assert!(claimed.elapsed() < LEASE + SLACK, "taken over after {:?}", claimed.elapsed());
    assert_eq!((answer.status, answer.replayed), (201, false), "{answer:?}");

    paused.signal("CONT").await;
    let late = caller.await.expect("the caller does not panic").expect("it goes on");
    assert!(late.replayed, "its own run is not what the store holds");
    assert_eq!(late.body, answer.body);
    for service in [&paused, &other] {
        let replay = invite.to(service).await;
        assert!(replay.replayed);
        assert_eq!(replay.body, answer.body, "nothing was overwritten");
    }
}

async fn a_paused_instance_waits_for_the_one_that_took_over(backend: Backend) {
    let url = backend.url();
    let paused = instance_with_lease(&url, "500ms", "1s").await;
    let other = instance_with_lease(&url, "2s", "1s").await;
    let invite = Invite::new();
    let caller = tokio::spawn(exchange(invite.request(&paused)));
    paused.logged(BEGUN).await;
    paused.signal("STOP").await;
    let next = tokio::spawn(exchange(invite.request(&other)));
    other.logged(BEGUN).await;
    paused.signal("CONT").await;
    let answer = next.await.expect("the caller does not panic").expect("it answers");
    let late = caller.await.expect("the caller does not panic").expect("it goes on");
    assert_eq!((answer.status, answer.replayed), (201, false), "{answer:?}");
    assert!(late.replayed);
    assert_eq!(late.body, answer.body);
}

/// Kills `first` while it runs a request; asserts that `second` runs it, and when.
async fn taken_over(first: Service, second: &Service) {
    let invite = Invite::new();
    let claimed = Instant::now();
    let caller = tokio::spawn(exchange(invite.request(&first)));
    first.logged(BEGUN).await;
    first.signal("KILL").await;
    first.ended().await;
    assert!(caller.await.expect("the caller does not panic").is_err(), "it died");
    let answer = invite.to(second).await;
    assert_eq!((answer.status, answer.replayed), (201, false), "{answer:?}");
    assert!(claimed.elapsed() >= LEASE, "after {:?}", claimed.elapsed());
    assert!(claimed.elapsed() < LEASE + SLACK, "after {:?}", claimed.elapsed());
}

async fn a_dead_instances_key_is_free_after_one_lease_and_not_before(backend: Backend) {
    let url = backend.url();
    let first = instance_with_lease(&url, "1h", "1s").await;
    taken_over(first, &instance_with_lease(&url, "0s", "1s").await).await;
}

async fn a_handler_longer_than_its_lease_keeps_it(backend: Backend) {
    let url = backend.url();
    let slow = instance_with_lease(&url, "4s", "1s").await;
    let other = instance_with_lease(&url, "0s", "1s").await;
    let invite = Invite::new();
    let caller = tokio::spawn(exchange(invite.request(&slow)));
    slow.logged(BEGUN).await;
    let duplicate = invite.to(&other).await;
    let answer = caller.await.expect("the caller does not panic").expect("it answers");
    assert!(duplicate.replayed && !answer.replayed);
    assert_eq!(duplicate.body, answer.body);
    assert_eq!(runs(&invite, &[&slow, &other]).await, 1);
}

/// An instance whose clock is off, through libfaketime. Only the wall clock: the monotonic clock
/// has no meaning outside of a machine.
async fn instance_with_clock(url: &str, offset: &str, latency: &str) -> Service {
    let library = fs::read_dir("/usr/lib")
        .expect("it is a directory")
        .flatten()
        .map(|directory| directory.path().join("faketime/libfaketime.so.1"))
        .find(|path| path.is_file())
        .expect("libfaketime is there: run `apt-get install faketime`, or `tests/run`");
    Service::start(&[
        ("ONBOARDING_STORE", url),
        ("ONBOARDING_LATENCY", latency),
        ("ONBOARDING_LEASE", "1s"),
        ("LD_PRELOAD", library.to_str().expect("its path is UTF-8")),
        ("FAKETIME", offset),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ])
    .await
}

async fn the_stores_clock_decides_not_an_instances(backend: Backend) {
    let url = backend.url();
    let right = instance(&url, "0s").await;
    // Off by more than the time for which a response is kept.
    for offset in ["+2h", "-2h"] {
        let wrong = instance_with_clock(&url, offset, "1500ms").await;
        let [its, ours] = [send(wrong.get(ENTITIES)).await, send(right.get(ENTITIES)).await];
        assert_ne!(hour(header(&its, "date")), hour(header(&ours, "date")), "the clock is off");

        let (here, there) = (Invite::new(), Invite::new());
        let stored = here.to(&right).await;
        let replay = here.to(&wrong).await;
        assert!(replay.replayed && replay.body == stored.body, "not expired: {offset}");

        let running = tokio::spawn(exchange(there.request(&wrong)));
        wrong.logged(BEGUN).await;
        let duplicate = there.to(&right).await;
        let answer = running.await.expect("the caller does not panic").expect("it answers");
        assert!(duplicate.replayed && duplicate.body == answer.body, "not lapsed: {offset}");
        assert_eq!(runs(&there, &[&right, &wrong]).await, 1);

        taken_over(instance_with_clock(&url, offset, "1h").await, &right).await;
    }
}

/// The hour of a date such as `Sat, 21 Nov 2026 19:37:42 GMT`.
fn hour(date: &str) -> &str {
    date.get(17..19).expect("a date has an hour")
}
