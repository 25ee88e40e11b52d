//! Services as a whole: how they end, and what they report.

use std::time::Duration;

use axum::{Router, extract::State, middleware::from_fn, routing::post};
use idempotent_axum::{Idempotency, MemoryStore, OperationState, Undrained, idempotent};
use idempotent_test_support::{
    Counter, Gate, PATIENCE, ask, count_ends, fresh_key, is_pending, post as request,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../../examples/graceful_shutdown.rs"]
mod graceful_shutdown;
#[cfg(feature = "metrics")]
#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../../examples/metrics.rs"]
mod measured;

#[idempotent]
async fn report(State(gate): State<Gate>) {
    gate.pass().await;
}

/// Stops a service whose only caller has left while its handler is at the gate; calls `meanwhile`
/// while it stops. Returns what was left, and what the caller's key then holds.
async fn shut_down(grace: Duration, meanwhile: impl FnOnce(&Gate)) -> (Undrained, OperationState) {
    let (gate, ended, key) = (Gate::default(), Counter::default(), fresh_key());
    let count = ended.clone();
    let routes = Router::new()
        .route("/reports", post(report))
        .layer(from_fn(move |request, next| count_ends(count.clone(), request, next)))
        .with_state(gate.clone());
    let idempotency = Idempotency::new(MemoryStore::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut caller = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async { _ = stopped.await };
    let serve = graceful_shutdown::serve(listener, routes, idempotency.clone(), stopped, grace);
    let mut serving = Box::pin(tokio::spawn(serve));

    let head = format!("POST /reports HTTP/1.1\r\nhost: test\r\nidempotency-key: {key}\r\n");
    caller.write_all((head + "content-length: 0\r\n\r\n").as_bytes()).await.unwrap();
    gate.arrived.reaches(1).await;
    drop(caller);
    ended.reaches(1).await;
    assert!(is_pending(serving.as_mut()).await, "nobody has stopped it");
    stop.send(()).unwrap();
    meanwhile(&gate);
    let left = serving.await.unwrap().unwrap();
    (left, idempotency.operation("POST /reports").key(key).state().await.unwrap())
}

#[tokio::test]
async fn a_shutdown_waits_for_a_handler_whose_caller_has_left() {
    let (left, key) = shut_down(PATIENCE, |gate| gate.open(1)).await;
    assert_eq!((left.runs, left.background), (0, 0));
    assert!(matches!(key, OperationState::Stored { .. }), "{key:?}");
}

#[tokio::test]
async fn a_shutdown_says_what_it_could_not_wait_for() {
    let (left, key) = shut_down(Duration::ZERO, |_| {}).await;
    assert_eq!((left.runs, left.background), (1, 0));
    assert!(matches!(key, OperationState::Running { .. }), "{key:?}");
}

#[cfg(feature = "metrics")]
#[tokio::test]
async fn decisions_are_counted_at_the_route_that_is_scraped() {
    let recorder = measured::recorder().unwrap().build_recorder();
    // Everything runs on this thread, and so does the recorder.
    let _guard = metrics::set_default_local_recorder(&recorder);
    let app = measured::app(Idempotency::new(MemoryStore::new()), recorder.handle());
    let key = fresh_key();
    for order in ["order 7", "order 7", "order 8"] {
        request("/payments").key(&key).body(order).send(&app).await;
    }
    let scraped = ask(http::Method::GET, "/metrics").send(&app).await;
    for line in [
        r#"idempotency_requests_total{operation="POST /payments",outcome="stored"} 1"#,
        r#"idempotency_requests_total{operation="POST /payments",outcome="replayed"} 1"#,
        r#"idempotency_requests_total{operation="POST /payments",outcome="key_reused"} 1"#,
        r#"idempotency_run_seconds_bucket{le="+Inf"} 1"#,
        "idempotency_claims_lost_total 0",
    ] {
        assert!(scraped.text().lines().any(|seen| seen == line), "{line} in {}", scraped.text());
    }
}
