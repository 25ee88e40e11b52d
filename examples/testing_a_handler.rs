//! How a handler is tested: called directly, retried, after its ttl, and while its store is down. In a crate
//! of yours each of the functions is a `#[tokio::test(start_paused = true)]`.
//!
//! `cargo run --example testing_a_handler --features testing`

use std::time::Duration;

use axum::{
    Router, body::Body, extract::Request, http::StatusCode, response::Response, routing::post,
};
use idempotent_axum::{
    Idempotency, IdempotencyKey, MemoryStore, Store, idempotent,
    testing::{FailingStore, Fault, assert_executed, assert_replayed},
};
use tower::ServiceExt as _;

#[idempotent(ttl = "24h")]
async fn pay(key: IdempotencyKey, order: String) -> (StatusCode, String) {
    (StatusCode::CREATED, format!("paid {order} under {}", key.derive("provider")))
}

async fn send(store: impl Store, order: &'static str) -> Response {
    let app: Router = Router::new().route("/pay", post(pay)).layer(Idempotency::new(store));
    let key = "8e03978e-40d5-43e8-bc93-6894a57f9324";
    let request = Request::post("/pay").header("idempotency-key", key).body(Body::from(order));
    app.oneshot(request.expect("a request")).await.expect("the router cannot fail")
}

async fn a_direct_call_runs() -> StatusCode {
    let response = pay(IdempotencyKey::new("order-7"), "order 7".to_owned().into()).await;
    assert_executed(&response);
    response.status()
}

async fn a_retry_is_replayed_until_the_ttl_passes() -> StatusCode {
    let store = MemoryStore::new();
    assert_executed(&send(store.clone(), "order 7").await);
    assert_replayed(&send(store.clone(), "order 7").await);
    tokio::time::advance(Duration::from_secs(86400)).await;
    let late = send(store, "order 7").await;
    assert_executed(&late);
    late.status()
}

async fn nothing_runs_while_the_store_is_down() -> StatusCode {
    let store = FailingStore::new(MemoryStore::new());
    store.always(Fault::NotSent);
    let refused = send(store.clone(), "order 7").await;
    store.mend();
    assert_executed(&send(store, "order 7").await);
    refused.status()
}

pub(crate) async fn report() -> String {
    let direct = a_direct_call_runs().await;
    let late = a_retry_is_replayed_until_the_ttl_passes().await;
    let down = nothing_runs_while_the_store_is_down().await;
    format!("called directly: {direct}\nafter the ttl: {late}\nwithout the store: {down}")
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    println!("{}", report().await);
}
