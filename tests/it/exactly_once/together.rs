//! Rows, claim and response are committed together, wherever the transaction is among the parameters.

use axum::{
    Json, Router,
    extract::{FromRequest, FromRequestParts, Request, State},
    http::{HeaderMap, StatusCode, request::Parts},
    response::{IntoResponse, Response},
    routing::post as route,
};
use idempotent_axum::{
    Idempotency, IdempotencyKey, PostgresStore, RepeatableRead, Serializable, Tx, TxError,
    TxRejection, idempotent,
};
use idempotent_test_support::{fresh_key, post};
use serde::Deserialize;
use sqlx::{Connection as _, PgPool, Row as _, postgres::PgPoolOptions};

use super::{App, Bank, insert};

#[derive(Deserialize)]
struct Payment {
    reference: String,
}

#[idempotent]
async fn pay(
    State(app): State<App>,
    mut tx: Tx,
    Json(payment): Json<Payment>,
) -> Result<(StatusCode, String), TxError> {
    app.runs.add();
    Ok((StatusCode::CREATED, insert(&mut tx, &payment.reference).await?))
}

fn payment(reference: &str) -> String {
    format!("{{\"reference\":\"{reference}\"}}")
}

#[tokio::test]
async fn a_payment_is_there_once_with_its_response() {
    let bank = Bank::open(Router::new().route("/pay", route(pay))).await;
    let key = fresh_key();
    let first = post("/pay").key(&key).json(&payment("rent")).send(&bank.router).await;
    assert_eq!((first.status, first.text()), (StatusCode::CREATED, "payment 1 of rent"));
    assert!(!first.is_replay());
    for _ in 0..3 {
        let again = post("/pay").key(&key).json(&payment("rent")).send(&bank.router).await;
        assert!(again.is_replay());
        assert_eq!((again.status, again.body), (first.status, first.body.clone()));
    }
    let other = post("/pay").key(&key).json(&payment("food")).send(&bank.router).await;
    assert_eq!(other.problem(), (422, "key_reused".to_owned()));
    let next = post("/pay").key(fresh_key()).json(&payment("food")).send(&bank.router).await;
    assert_eq!(next.text(), "payment 2 of food");
    assert_eq!(bank.payments(), ["rent", "food"]);
    assert_eq!((bank.app.runs.get(), bank.keys()), (2, 2));
}

#[tokio::test]
async fn without_a_key_a_payment_is_there_for_each_request() {
    let bank = Bank::open(Router::new().route("/pay", route(pay))).await;
    for _ in 0..2 {
        let answer = post("/pay").json(&payment("rent")).send(&bank.router).await;
        assert_eq!(answer.status, StatusCode::CREATED);
    }
    assert_eq!(bank.payments(), ["rent", "rent"]);
    assert_eq!(bank.keys(), 0);
}

/// The last parameter, and the only one.
#[idempotent]
async fn last(mut tx: Tx) -> Result<String, TxError> {
    insert(&mut tx, "last").await
}

/// What a service would wrap it in: the account, and the transaction to reach it.
struct Account {
    tx: Tx,
    name: String,
}

impl<S: Sync> FromRequestParts<S> for Account {
    type Rejection = TxRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, TxRejection> {
        let name = parts.headers.get("x-account").map(|name| name.to_str().expect("a name"));
        let name = name.unwrap_or("nobody").to_owned();
        Ok(Self { tx: Tx::from_request_parts(parts, state).await?, name })
    }
}

#[idempotent(principal = account.name)]
async fn first(mut account: Account, body: String) -> Result<String, TxError> {
    insert(&mut account.tx, &format!("{body} of {}", account.name)).await
}

/// An account that takes the whole request.
struct Whole(Account, String);

impl<S: Send + Sync> FromRequest<S> for Whole {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let account = Account::from_request_parts(&mut parts, state).await;
        let account = account.map_err(TxRejection::into_response)?;
        let body = String::from_request(Request::from_parts(parts, body), state).await;
        Ok(Self(account, body.map_err(IntoResponse::into_response)?))
    }
}

#[idempotent]
async fn whole(Whole(mut account, body): Whole) -> Result<String, TxError> {
    insert(&mut account.tx, &body).await
}

#[idempotent(key = event.reference, principal = "the bank")]
async fn event(
    mut tx: Tx,
    key: IdempotencyKey,
    Json(event): Json<Payment>,
) -> Result<String, TxError> {
    assert!(key.get().is_some_and(|key| key == event.reference));
    insert(&mut tx, &event.reference).await
}

#[idempotent]
async fn unused(_: Tx<Serializable>, headers: HeaderMap) -> String {
    format!("{} headers", headers.len())
}

#[tokio::test]
async fn it_may_stand_anywhere_among_the_parameters() {
    let routes = Router::new()
        .route("/last", route(last))
        .route("/first", route(first))
        .route("/whole", route(whole))
        .route("/event", route(event))
        .route("/unused", route(unused));
    let bank = Bank::open(routes).await;
    let mut count = 0;
    for path in ["/last", "/first", "/whole", "/event", "/unused"] {
        let body = payment(path);
        let (key, rows) = (fresh_key(), usize::from(path != "/unused"));
        let ask = || post(path).json(&body).header("x-account", "ada");
        let ran = ask().key(&key).send(&bank.router).await;
        assert_eq!((ran.status, ran.is_replay()), (StatusCode::OK, false), "{path} {ran:?}");
        count += rows;
        assert_eq!(bank.payments().len(), count, "{path}");
        let replay = ask().key(&key).send(&bank.router).await;
        assert_eq!((replay.is_replay(), replay.body), (true, ran.body), "{path}");
        let unkeyed = ask().send(&bank.router).await;
        assert_eq!(unkeyed.status, StatusCode::OK, "{path} {unkeyed:?}");
        // The event's key is in its body.
        count += if path == "/event" { 0 } else { rows };
        assert_eq!(bank.payments().len(), count, "{path}");
    }
}

#[idempotent]
async fn savepoints(mut tx: Tx) -> Result<String, TxError> {
    let kept = insert(&mut tx, "kept").await?;
    let mut undone = tx.begin().await?;
    insert(&mut undone, "undone").await?;
    undone.rollback().await?;
    let mut dropped = tx.begin().await?;
    insert(&mut dropped, "dropped").await?;
    drop(dropped);
    let mut inner = tx.begin().await?;
    insert(&mut inner, "inner").await?;
    inner.commit().await?;
    Ok(kept)
}

#[tokio::test]
async fn a_transaction_in_it_is_a_savepoint() {
    let bank = Bank::open(Router::new().route("/pay", route(savepoints))).await;
    for ask in [post("/pay").key(fresh_key()), post("/pay")] {
        assert_eq!(ask.send(&bank.router).await.status, StatusCode::OK);
    }
    assert_eq!(bank.payments(), ["kept", "inner", "kept", "inner"]);
}

/// The strictest of axum's checks.
#[axum::debug_handler]
#[idempotent]
async fn limit(mut tx: Tx) -> Result<String, TxError> {
    let limit = "SELECT current_setting('statement_timeout') || ' ' || current_setting('work_mem')";
    Ok(sqlx::query(limit).fetch_one(&mut *tx).await?.try_get(0)?)
}

#[tokio::test]
async fn its_session_is_set_up_as_the_pools_are_and_without_the_limit_of_the_verbs() {
    let bank = Bank::open(Router::new()).await;
    let pool = PgPoolOptions::new().after_connect(|connection, _| {
        Box::pin(
            async move { sqlx::query("SET work_mem = '7MB'").execute(connection).await.map(drop) },
        )
    });
    let pool = pool.connect_lazy(bank.app.url.get().expect("it is known")).unwrap();
    let store = PostgresStore::builder().schema(&bank.schema).build(pool).unwrap();
    let router = Router::new().route("/limit", route(limit)).layer(Idempotency::new(store));
    for ask in [post("/limit").key(fresh_key()), post("/limit")] {
        assert_eq!(ask.send(&router).await.text(), "0 7MB");
    }
}

#[tokio::test]
async fn a_unit_test_gives_a_handler_one_that_is_rolled_back() {
    let bank = Bank::open(Router::new()).await;
    let pool = PgPool::connect(bank.app.url.get().expect("it is known")).await.unwrap();
    let tx = Tx::rolling_back(pool.begin().await.unwrap());
    let body = Json(Payment { reference: "rent".to_owned() });
    let response = pay(State(bank.app.clone()), tx, body.into()).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    assert!(bank.payments().is_empty());
}

async fn level<I>(tx: &mut Tx<I>) -> Result<String, TxError> {
    Ok(sqlx::query("SHOW transaction_isolation").fetch_one(&mut **tx).await?.try_get(0)?)
}

#[idempotent]
async fn committed(mut tx: Tx) -> Result<String, TxError> {
    level(&mut tx).await
}

#[idempotent]
async fn repeatable(mut tx: Tx<RepeatableRead>) -> Result<String, TxError> {
    level(&mut tx).await
}

#[idempotent]
async fn serializable(mut tx: Tx<Serializable>) -> Result<String, TxError> {
    level(&mut tx).await
}

#[tokio::test]
async fn it_is_as_isolated_as_its_type_says() {
    let routes = Router::new()
        .route("/committed", route(committed))
        .route("/repeatable", route(repeatable))
        .route("/serializable", route(serializable));
    let bank = Bank::open(routes).await;
    for (path, level) in [
        ("/committed", "read committed"),
        ("/repeatable", "repeatable read"),
        ("/serializable", "serializable"),
    ] {
        for ask in [post(path).key(fresh_key()), post(path)] {
            assert_eq!(ask.send(&bank.router).await.text(), level);
        }
    }
}
