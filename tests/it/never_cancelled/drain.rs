//! `Idempotency::drain`: a shutdown waits for every handler that has started.

use std::pin::pin;

use axum::{Router, routing::post as route};
use idempotent_axum::{Idempotency, MemoryStore, idempotent};
use idempotent_test_support::{Fault, fresh_key, is_pending, post};

use super::Service;

#[tokio::test(flavor = "multi_thread")]
async fn drain_waits_for_every_handler_from_its_start_to_its_end_wherever_it_runs() {
    let service = Service::start().await;
    assert!(!is_pending(pin!(service.idempotency.drain())).await, "nothing runs yet");
    let attended = service.server.open("/pay", &fresh_key(), "rent").await;
    service.app.gate.arrived.reaches(1).await;
    // `axum::serve` may return before it has dropped a connection whose client is gone.
    assert!(
        is_pending(pin!(service.idempotency.drain())).await,
        "it runs in its connection's task"
    );
    service.app.gate.open(1);
    assert_eq!(attended.reply().await.unwrap().status, 201);

    let cut_off = service.server.open("/pay", &fresh_key(), "rent").await;
    service.app.gate.arrived.reaches(2).await;
    assert!(is_pending(pin!(service.idempotency.drain())).await, "its caller waits");
    drop(cut_off);
    service.app.ended.reaches(2).await;
    let mut drain = pin!(service.idempotency.drain());
    assert!(is_pending(drain.as_mut()).await, "it runs in a task of its own");
    service.app.gate.open(1);
    drain.await;
    assert_eq!(service.app.effects.get(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_waits_for_a_response_that_is_stored_in_the_background() {
    let service = Service::start().await;
    let key = fresh_key();
    service.probe.complete.next([Fault::Fails, Fault::Fails]);
    service.app.gate.open(1);
    let first = service.server.post("/pay", &key, "rent").await;
    assert_eq!((first.status.as_u16(), first.is_replay()), (201, false));

    service.idempotency.drain().await;
    assert_eq!(service.probe.complete.begun.get(), 3);
    assert!(service.server.post("/pay", &key, "rent").await.is_replay());
}

#[tokio::test(flavor = "multi_thread")]
async fn graceful_shutdown_and_drain_lose_nothing() {
    let service = Service::start().await;
    let mut callers = Vec::new();
    for round in 1..=20 {
        service.cut_off("/pay", &fresh_key()).await;
        callers.push(service.server.open("/pay", &fresh_key(), "rent").await);
        service.app.gate.arrived.reaches(2 * round).await;
    }
    let Service { app, probe, idempotency, server, .. } = service;
    let shutdown = tokio::spawn(async move {
        server.stop().await;
        idempotency.drain().await;
    });
    app.gate.open_for_good();
    shutdown.await.unwrap();
    assert_eq!((app.effects.get(), probe.complete.ended.get()), (40, 40));
    for caller in callers {
        assert_eq!(caller.reply().await.unwrap().status, 201);
    }
}

#[tokio::test]
async fn a_handler_that_panics_does_not_hold_the_drain() {
    #[idempotent]
    async fn panics() {
        panic!("on purpose");
    }

    let idempotency = Idempotency::new(MemoryStore::new());
    let app = Router::new().route("/", route(panics)).layer(idempotency.clone());
    let caller = post("/").key(fresh_key()).spawn(&app);
    assert!(caller.await.is_err_and(|error| error.is_panic()));
    idempotency.drain().await;
}
