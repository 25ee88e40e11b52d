//! A store that dies, hangs, is slow or out of reach: requests are refused in time, and the service
//! recovers on its own.

use std::time::{Duration, Instant};

use test_servers::{Fault, Proxy};
use tokio::task::block_in_place;

use crate::{
    fleet::{
        Answer, Backend, Invite, Load, STORE_TIMEOUT, assert_unavailable, instance,
        instance_with_lease, on_each_store, runs,
    },
    service::{ENTITIES, Service},
};

on_each_store! {
    nothing_runs_twice_while_the_server_is_killed_and_restarted_under_load
    requests_are_refused_in_time_while_the_server_is_down
    requests_are_refused_in_time_while_the_server_hangs
    requests_are_refused_in_time_while_connections_are_reset
    requests_are_refused_in_time_while_answers_are_lost
    requests_are_refused_in_time_while_the_network_is_silent
    requests_are_refused_in_time_while_the_network_is_too_slow
    a_slow_network_is_only_slow
}

const SHORT: Duration = Duration::from_millis(100);

async fn nothing_runs_twice_while_the_server_is_killed_and_restarted_under_load(backend: Backend) {
    let url = backend.url();
    let load = Load::start([instance(&url, "20ms").await, instance(&url, "20ms").await]);
    // Shorter than a call keeps trying, and longer.
    for outage in [SHORT, SHORT, STORE_TIMEOUT + SHORT] {
        tokio::time::sleep(Duration::from_millis(400)).await; // load
        block_in_place(|| backend.kill());
        tokio::time::sleep(outage).await; // load without a server
        block_in_place(|| backend.restart());
    }
    load.assert_once().await;
}

/// Causes a fault, checks a service under it, ends it, and checks again.
async fn outage(service: Service, fault: &str, begin: impl FnOnce(), end: impl FnOnce()) {
    let stored = Invite::new();
    let first = stored.to(&service).await;
    assert_eq!((first.status, first.replayed), (201, false), "{first:?}");
    // Every pooled connection has made a claim: under the fault the next one can as well.
    for _ in 0..10 {
        assert!(stored.to(&service).await.replayed);
    }

    block_in_place(begin);
    let new = Invite::new();
    for _ in 0..2 {
        for invite in [&new, &stored] {
            let since = Instant::now();
            let answer = invite.to(&service).await;
            assert_unavailable(&answer, since.elapsed(), fault);
        }
    }
    assert_eq!(service.list(ENTITIES).await.len(), 1, "{fault}: nothing runs");
    block_in_place(end);

    assert_recovered(&service, &stored, &first).await;
    assert_eq!(new.retried(&[&service]).await.status, 201);
    assert_eq!(runs(&new, &[&service]).await, 1, "{fault}");
}

async fn assert_recovered(service: &Service, stored: &Invite, first: &Answer) {
    let replay = stored.retried(&[service]).await;
    assert!(replay.replayed);
    assert_eq!(replay.body, first.body);
    assert_eq!(runs(stored, &[service]).await, 1);
}

async fn requests_are_refused_in_time_while_the_server_is_down(backend: Backend) {
    let service = instance(&backend.url(), "0s").await;
    outage(service, "down", || backend.kill(), || backend.restart()).await;
}

async fn requests_are_refused_in_time_while_the_server_hangs(backend: Backend) {
    let service = instance(&backend.url(), "0s").await;
    outage(service, "hangs", || backend.pause(), || backend.resume()).await;
}

async fn outage_of_network(backend: &Backend, fault: Fault) {
    let proxy: Proxy = backend.proxy();
    // Longer than the test waits: a claim that its caller does not know about must not stay.
    let lease = if fault == Fault::LoseReplies { "1h" } else { "30s" };
    let service = instance_with_lease(&backend.url_through(&proxy), "0s", lease).await;
    outage(service, &format!("{fault:?}"), || proxy.set(fault), || proxy.set(Fault::None)).await;
}

async fn requests_are_refused_in_time_while_connections_are_reset(backend: Backend) {
    outage_of_network(&backend, Fault::Reset).await;
}

async fn requests_are_refused_in_time_while_answers_are_lost(backend: Backend) {
    outage_of_network(&backend, Fault::LoseReplies).await;
}

async fn requests_are_refused_in_time_while_the_network_is_silent(backend: Backend) {
    outage_of_network(&backend, Fault::Stall).await;
}

async fn requests_are_refused_in_time_while_the_network_is_too_slow(backend: Backend) {
    outage_of_network(&backend, Fault::Latency(Duration::from_secs(3))).await;
}

async fn a_slow_network_is_only_slow(backend: Backend) {
    let proxy = backend.proxy();
    let near = instance(&backend.url(), "0s").await;
    let far = instance(&backend.url_through(&proxy), "0s").await;
    proxy.set(Fault::Latency(Duration::from_millis(100)));
    let invite = Invite::new();
    let first = invite.retried(&[&far]).await;
    for service in [&near, &far] {
        let replay = invite.retried(&[service]).await;
        assert!(replay.replayed);
        assert_eq!(replay.body, first.body);
    }
    assert_eq!(runs(&invite, &[&near, &far]).await, 1);
}
