//! `Tx` inside a boundary: the commit happens there, decided by the response that the inner layers
//! leave.

use std::time::Duration;

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{Next, from_fn},
    response::{IntoResponse as _, Response},
    routing::post as route,
};
use idempotent_axum::{RunBoundary, Tx, TxError, idempotent};
use idempotent_test_support::{fresh_key, post};

use super::{App, Bank, insert};

#[idempotent]
async fn pay(State(app): State<App>, mut tx: Tx) -> Result<(StatusCode, String), TxError> {
    let paid = insert(&mut tx, "rent").await?;
    app.runs.add();
    app.gate.pass().await;
    Ok((StatusCode::CREATED, paid))
}

/// Fails as long as the request says so.
async fn fails(request: Request, next: Next) -> Response {
    let is_failing = request.headers().contains_key("fail");
    let response = next.run(request).await;
    if is_failing { StatusCode::BAD_GATEWAY.into_response() } else { response }
}

/// Tries a second time, whatever the first answer was.
async fn twice(request: Request, next: Next) -> Response {
    let mut again = Request::post(request.uri().path());
    *again.headers_mut().unwrap() = request.headers().clone();
    *again.extensions_mut().unwrap() = request.extensions().clone();
    next.clone().run(request).await;
    next.run(again.body(axum::body::Body::empty()).unwrap()).await
}

async fn gives_up(request: Request, next: Next) -> Response {
    let answered = tokio::time::timeout(Duration::from_millis(300), next.run(request)).await;
    answered.unwrap_or_else(|_| StatusCode::GATEWAY_TIMEOUT.into_response())
}

macro_rules! bank {
    ($layer:expr) => {
        Bank::open(Router::new().route("/pay", route(pay)).layer($layer).layer(RunBoundary::new()))
            .await
    };
}

#[tokio::test]
async fn a_layer_that_fails_after_the_handler_rolls_its_rows_back() {
    let bank = bank!(from_fn(fails));
    bank.app.gate.open(10);
    for key in [Some(fresh_key()), None] {
        let ask = || match &key {
            Some(key) => post("/pay").key(key),
            None => post("/pay"),
        };
        let failed = ask().header("fail", "yes").send(&bank.router).await;
        assert_eq!(failed.status, StatusCode::BAD_GATEWAY);
        assert_eq!((bank.payments().len(), bank.keys()), (0, 0), "with a key: {}", key.is_some());
    }
    let key = fresh_key();
    let failed = post("/pay").key(&key).header("fail", "yes").send(&bank.router).await;
    assert_eq!(failed.status, StatusCode::BAD_GATEWAY);
    let paid = post("/pay").key(&key).send(&bank.router).await;
    assert_eq!((paid.status, paid.is_replay()), (StatusCode::CREATED, false));
    assert!(post("/pay").key(&key).send(&bank.router).await.is_replay());
    assert_eq!(post("/pay").send(&bank.router).await.status, StatusCode::CREATED);
    assert_eq!(bank.payments(), ["rent", "rent"]);
}

#[tokio::test]
async fn of_two_tries_inside_the_boundary_the_last_one_counts() {
    let bank = bank!(from_fn(twice));
    bank.app.gate.open(10);
    assert_eq!(post("/pay").send(&bank.router).await.status, StatusCode::CREATED);
    assert_eq!((bank.app.runs.get(), bank.payments()), (2, vec!["rent".to_owned()]));

    let key = fresh_key();
    let paid = post("/pay").key(&key).send(&bank.router).await;
    assert_eq!((paid.status, paid.text()), (StatusCode::CREATED, "payment 4 of rent"));
    assert_eq!((bank.app.runs.get(), bank.payments().len(), bank.keys()), (4, 2, 1));
    let replay = post("/pay").key(&key).send(&bank.router).await;
    assert!(replay.is_replay());
    assert_eq!((replay.text(), bank.app.runs.get()), ("payment 4 of rent", 4));
}

#[tokio::test]
async fn a_handler_that_a_layer_drops_has_done_nothing() {
    let bank = bank!(from_fn(gives_up));
    for key in [Some(fresh_key()), None] {
        let ask = || match &key {
            Some(key) => post("/pay").key(key),
            None => post("/pay"),
        };
        // The gate is closed: the handler is dropped after it has written its row.
        let dropped = ask().send(&bank.router).await;
        assert_eq!(dropped.status, StatusCode::GATEWAY_TIMEOUT);
        assert_eq!((bank.payments().len(), bank.keys()), (0, 0), "with a key: {}", key.is_some());
    }
    bank.app.gate.open(10);
    assert_eq!(post("/pay").key(fresh_key()).send(&bank.router).await.status, StatusCode::CREATED);
    assert_eq!(bank.payments(), ["rent"]);
}

#[tokio::test]
async fn a_caller_that_leaves_has_its_run_committed_with_a_key_and_rolled_back_without() {
    let bank = bank!(from_fn(fails));
    for key in [Some(fresh_key()), None] {
        let ask = match &key {
            Some(key) => post("/pay").key(key),
            None => post("/pay"),
        };
        let before = bank.app.runs.get();
        let router = bank.router.clone();
        let caller = tokio::spawn(async move { ask.send(&router).await });
        bank.app.runs.reaches(before + 1).await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        bank.app.gate.open(1);
        bank.idempotency.drain().await;
        assert_eq!(bank.payments().len(), 1, "with a key: {}", key.is_some());
        if let Some(key) = key {
            assert!(post("/pay").key(&key).send(&bank.router).await.is_replay());
        }
    }
}
