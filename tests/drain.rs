//! `Idempotency::drain`: a shutdown waits for every handler that has started.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
};

use axum::{Router, body::Body, extract::State, http::Request, routing::post};
use idempotent_axum::{Idempotency, MemoryStore, idempotent};
use tokio::sync::Notify;
use tower::ServiceExt as _;

#[idempotent]
async fn handler(State(end): State<Arc<Notify>>) {
    end.notified().await;
}

fn is_pending(future: impl Future) -> bool {
    pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[tokio::test]
async fn a_handler_holds_the_drain_from_its_start_to_its_end_wherever_it_runs() {
    let idempotency = Idempotency::new(MemoryStore::new());
    let end = Arc::new(Notify::new());
    let app: Router = Router::new()
        .route("/", post(handler))
        .layer(idempotency.clone())
        .with_state(Arc::clone(&end));
    let key = "8e03978e-40d5-43e8-bc93-6894a57f9324";
    let request = Request::post("/").header("idempotency-key", key).body(Body::empty());
    let mut connection = Box::pin(app.oneshot(request.expect("it is valid")));
    assert!(!is_pending(idempotency.drain()), "nothing runs yet");

    assert!(is_pending(connection.as_mut()));
    // `axum::serve` may return before it has dropped a connection whose client is gone.
    assert!(is_pending(idempotency.drain()), "it runs in its connection's task");

    drop(connection);
    assert!(is_pending(idempotency.drain()), "it runs in a task of its own");

    end.notify_one();
    idempotency.drain().await;
}

#[tokio::test]
async fn a_handler_that_panics_does_not_hold_the_drain() {
    #[idempotent]
    async fn panics() {
        panic!("on purpose");
    }

    let idempotency = Idempotency::new(MemoryStore::new());
    let app: Router = Router::new().route("/", post(panics)).layer(idempotency.clone());
    let key = "8e03978e-40d5-43e8-bc93-6894a57f9324";
    let request = Request::post("/").header("idempotency-key", key).body(Body::empty());
    let caller = tokio::spawn(app.oneshot(request.expect("it is valid")));
    assert!(caller.await.is_err_and(|error| error.is_panic()));
    idempotency.drain().await;
}
