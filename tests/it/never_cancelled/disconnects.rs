//! Callers that go away: a started handler continues, and its response is ready for the retry.

use std::time::Duration;

use axum::http::StatusCode;
use idempotent_test_support::{Events, fresh_key, post};
use tower_http::timeout::TimeoutLayer;

use super::Service;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_cut_off_mid_handler_gets_the_one_response_when_it_retries() {
    let service = Service::start().await;
    let key = fresh_key();
    service.cut_off("/pay", &key).await;

    // One retry comes while the handler still runs, one after it.
    let early = service.server.open("/pay", &key, "rent").await;
    service.probe.wait.begun.reaches(1).await;
    service.app.gate.open(1);
    let early = early.reply().await.unwrap();
    let late = service.server.post("/pay", &key, "rent").await;
    for retry in [early, late] {
        assert!(retry.is_replay());
        assert_eq!((retry.status.as_u16(), retry.text()), (201, "rent: effect 0"));
    }
    assert_eq!((service.app.gate.arrived.get(), service.app.effects.get()), (1, 1));
}

/// The clock is virtual: it advances when the handler is at the gate and everything waits.
#[tokio::test(start_paused = true)]
async fn an_outer_timeout_does_not_cancel_the_handler() {
    let timeout =
        TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_millis(50));
    let service = Service::start().await;
    let router = service.router.clone().layer(timeout);
    let key = fresh_key();
    let send = async || post("/pay").key(&key).body("rent").send(&router).await;
    assert_eq!(send().await.status, 408);
    assert_eq!(service.app.gate.arrived.get(), 1);

    service.app.gate.open(1);
    service.idempotency.drain().await;
    let retry = send().await;
    assert!(retry.is_replay());
    assert_eq!((retry.status.as_u16(), retry.text()), (201, "rent: effect 0"));
    assert_eq!(service.app.effects.get(), 1);
}

#[tokio::test]
async fn the_callers_span_stays_current_after_the_hand_over() {
    // Everything runs on this thread, whose events these are.
    let (events, _guard) = Events::of_thread();
    let service = Service::start().await;
    service.cut_off("/traced", &fresh_key()).await;
    service.app.gate.open(1);
    service.app.effects.reaches(1).await;
    let all = events.all();
    let event = all.iter().find(|event| event.message == "after the hand-over").unwrap();
    assert_eq!(event.spans, ["caller", "idempotency"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_cut_off_while_it_waits_is_forgotten() {
    let service = Service::start().await;
    let key = fresh_key();
    let first = service.server.open("/pay", &key, "rent").await;
    service.app.gate.arrived.reaches(1).await;
    let waiter = service.server.open("/pay", &key, "rent").await;
    service.probe.wait.begun.reaches(1).await;
    drop(waiter);
    service.probe.wait.ended.reaches(1).await;
    service.app.gate.open(1);
    assert_eq!(first.reply().await.unwrap().body, "rent: effect 0");
    // Nothing started for the waiter, so nothing continues without it.
    service.idempotency.drain().await;
    assert_eq!(service.app.gate.arrived.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_that_the_body_does_not_name_live_as_long_as_a_detached_body() {
    let service = Service::start().await;
    let key = fresh_key();
    service.cut_off("/guarded", &key).await;
    assert_eq!(service.app.guards.get(), 0);
    service.app.gate.open(1);
    service.idempotency.drain().await;
    assert_eq!(service.server.post("/guarded", &key, "rent").await.body, "0 guards gone");
    // Those of the retry, and those of the detached body.
    assert_eq!(service.app.guards.get(), 4);
}
