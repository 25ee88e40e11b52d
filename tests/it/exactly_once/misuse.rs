//! Handlers that misuse their transaction: the caller and the log are told, and what was committed
//! is never done twice.

use std::{
    mem::{forget, swap},
    pin::pin,
};

use axum::{
    Router,
    extract::{FromRequestParts, State},
    http::{StatusCode, request::Parts},
    response::{IntoResponse as _, Response},
    routing::post as route,
};
use idempotent_axum::{Idempotency, MemoryStore, Tx, TxError, TxRejection, idempotent};
use idempotent_test_support::{Answer, Events, fresh_key, is_pending, post};
use sqlx::{Connection as _, PgConnection};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Level;

use super::{App, Bank, insert};

async fn run(tx: &mut PgConnection, sql: &'static str) -> Result<(), TxError> {
    sqlx::raw_sql(sql).execute(tx).await?;
    Ok(())
}

/// Writes a row, and then does what `what` says.
#[idempotent(wait = "0s")]
async fn pay(State(app): State<App>, mut tx: Tx, what: String) -> Result<Response, TxError> {
    app.runs.add();
    insert(&mut tx, &what).await?;
    match &*what {
        "commits" => run(&mut tx, "COMMIT").await?,
        "commits and begins" => run(&mut tx, "COMMIT; BEGIN").await?,
        "commits, begins and fails" => {
            run(&mut tx, "COMMIT; BEGIN").await?;
            return Ok(StatusCode::BAD_REQUEST.into_response());
        }
        "commits and fails" => {
            run(&mut tx, "COMMIT").await?;
            return Ok(StatusCode::BAD_REQUEST.into_response());
        }
        "commits and panics" => {
            run(&mut tx, "COMMIT").await?;
            panic!("as it was asked to");
        }
        "rolls back" => run(&mut tx, "ROLLBACK").await?,
        "rolls back and writes" => {
            run(&mut tx, "ROLLBACK").await?;
            insert(&mut tx, &what).await?;
        }
        "resets" => run(&mut tx, "RESET ALL").await?,
        "forgets a savepoint" => forget(tx.begin().await?),
        "gives a savepoint up" => {
            // sqlx then rolls back everything, and what follows is committed separately.
            while !is_pending(pin!(tx.begin())).await {}
            insert(&mut tx, &what).await?;
        }
        "swaps" => {
            let url = app.url.get().expect("the test has said it");
            let mut other = PgConnection::connect(url).await?;
            swap(&mut other, &mut *tx);
        }
        "leaves" => {
            tokio::spawn(async move {
                app.gate.pass().await;
                drop(tx);
            });
        }
        "forgets" => forget(tx),
        other => panic!("no such misuse: {other}"),
    }
    Ok((StatusCode::CREATED, "done").into_response())
}

pub(super) fn routes() -> Router<App> {
    Router::new().route("/pay", route(pay)).layer(CatchPanicLayer::new())
}

async fn bank() -> Bank<'static> {
    Bank::open(routes()).await
}

/// Sends a request; returns the answer and the errors logged meanwhile.
async fn ask(bank: &Bank<'_>, key: Option<&str>, what: &'static str) -> (Answer, Vec<String>) {
    let (events, _guard) = Events::of_thread();
    let ask = post("/pay").body(what);
    let ask = match key {
        Some(key) => ask.key(key),
        None => ask,
    };
    let answer = ask.send(&bank.router).await;
    (answer, events.at(Level::ERROR))
}

const FAILED: (u16, &str) = (500, "transaction_failed");
const UNKNOWN: (u16, &str) = (409, "outcome_unknown");

fn problem(answer: &Answer) -> (u16, String) {
    answer.problem()
}

#[tokio::test]
async fn a_handler_that_ends_its_transaction_runs_once_and_its_key_says_so() {
    assert_noticed(&bank().await).await;
}

/// Requests each way to end a transaction, then again.
pub(super) async fn assert_noticed(bank: &Bank<'_>) {
    for (what, rows) in [
        ("commits", 1),
        ("commits and begins", 1),
        ("commits and fails", 1),
        ("commits, begins and fails", 1),
        ("rolls back", 0),
        ("rolls back and writes", 1),
        ("resets", 0),
        ("gives a savepoint up", 1),
        ("swaps", 0),
    ] {
        let (runs, before) = (bank.app.runs.get(), bank.payments().len());
        let key = fresh_key();
        let (answer, errors) = ask(bank, Some(&key), what).await;
        assert_eq!(problem(&answer), (FAILED.0, FAILED.1.to_owned()), "{what}");
        assert_eq!(errors.len(), 1, "{what}: {errors:?}");
        assert!(errors[0].contains("leave `COMMIT` and `ROLLBACK`"), "{what}: {errors:?}");
        for _ in 0..2 {
            let (retry, errors) = ask(bank, Some(&key), what).await;
            assert_eq!(problem(&retry), (UNKNOWN.0, UNKNOWN.1.to_owned()), "{what}");
            assert!(errors.is_empty(), "{errors:?}");
        }
        assert_eq!(bank.app.runs.get(), runs + 1, "{what}");
        assert_eq!(bank.payments().len(), before + rows, "{what}");

        let (answer, errors) = ask(bank, None, what).await;
        assert_eq!(problem(&answer), (FAILED.0, FAILED.1.to_owned()), "{what} without a key");
        assert_eq!(errors.len(), 1, "{what} without a key: {errors:?}");
        assert_eq!(bank.payments().len(), before + 2 * rows, "{what} without a key");
    }
}

#[tokio::test]
async fn a_handler_that_commits_and_panics_runs_once_and_its_key_says_so() {
    let bank = bank().await;
    let key = fresh_key();
    let (answer, _) = ask(&bank, Some(&key), "commits and panics").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    let (retry, _) = ask(&bank, Some(&key), "commits and panics").await;
    assert_eq!(problem(&retry), (UNKNOWN.0, UNKNOWN.1.to_owned()));
    assert_eq!((bank.app.runs.get(), bank.payments().len()), (1, 1));
}

#[tokio::test]
async fn a_savepoint_that_is_forgotten_leaves_nothing() {
    let bank = bank().await;
    let key = fresh_key();
    for key in [Some(&*key), Some(&*key), None] {
        let (answer, errors) = ask(&bank, key, "forgets a savepoint").await;
        assert_eq!(problem(&answer), (FAILED.0, FAILED.1.to_owned()));
        assert_eq!(errors, ["a request's transaction could not be committed"]);
    }
    assert_eq!((bank.app.runs.get(), bank.payments().len()), (3, 0));
}

#[tokio::test]
async fn one_that_outlives_its_handler_is_rolled_back_and_locks_the_key_until_it_is_dropped() {
    let bank = bank().await;
    for (index, key) in [Some(fresh_key()), None].into_iter().enumerate() {
        let (answer, errors) = ask(&bank, key.as_deref(), "leaves").await;
        assert_eq!(problem(&answer), (FAILED.0, FAILED.1.to_owned()));
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains("outlived its handler"), "{errors:?}");
        bank.app.gate.arrived.reaches(index * 2 + 1).await;
        let Some(key) = key.as_deref() else { continue };
        let (locked, _) = ask(&bank, Some(key), "leaves").await;
        assert_eq!(problem(&locked), (409, "request_in_progress".to_owned()));
        assert_eq!(bank.app.runs.get(), 1);
        bank.app.gate.open(1);
        // The server is told in the background.
        while bank.app.runs.get() == 1 {
            ask(&bank, Some(key), "leaves").await;
        }
        bank.app.gate.arrived.reaches(2).await;
    }
    assert!(bank.payments().is_empty());
}

#[tokio::test]
async fn one_that_is_forgotten_is_never_committed() {
    let bank = bank().await;
    let key = fresh_key();
    let (answer, errors) = ask(&bank, Some(&key), "forgets").await;
    assert_eq!(problem(&answer), (FAILED.0, FAILED.1.to_owned()));
    assert!(errors[0].contains("outlived its handler"), "{errors:?}");
    let (locked, _) = ask(&bank, Some(&key), "forgets").await;
    assert_eq!(problem(&locked), (409, "request_in_progress".to_owned()));
    assert!(bank.payments().is_empty());
}

#[idempotent]
async fn two(first: Tx, second: Tx) {
    drop((first, second));
}

#[idempotent]
async fn two_last(_: Tx, app: State<App>, second: Tx) {
    app.runs.add();
    drop(second);
}

#[idempotent]
async fn one(State(app): State<App>, _: Tx) {
    app.runs.add();
}

/// Calls the handler at `path` with and without a key: 500, and one error that names it.
async fn assert_misconfigured(router: &Router, path: &'static str, why: &str) {
    let (events, _guard) = Events::of_thread();
    for ask in [post(path).key(fresh_key()), post(path)] {
        assert_eq!(ask.send(router).await.problem(), (500, "misconfigured".to_owned()));
    }
    let errors = events.all().into_iter().filter(|event| event.level == Level::ERROR);
    let errors: Vec<_> = errors.collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].message.contains(why), "{errors:?}");
    assert_eq!(errors[0].fields, [format!("operation=\"POST {path}\"")]);
}

#[tokio::test]
async fn a_second_one_and_one_without_its_store_are_refused_by_name() {
    let twos = Router::new().route("/two", route(two)).route("/two-last", route(two_last));
    let bank = Bank::open(twos).await;
    assert_misconfigured(&bank.router, "/two", "takes two `Tx`").await;
    assert_eq!(bank.app.runs.get(), 0);
    // The last parameter is extracted once the key is read.
    let answer = post("/two-last").key(fresh_key()).send(&bank.router).await;
    assert_eq!(answer.problem(), (500, "misconfigured".to_owned()));
    assert_eq!((bank.app.runs.get(), bank.keys()), (0, 0));

    let app = App::default();
    let ones = || Router::new().route("/one", route(one)).route("/other", route(one));
    let in_memory = ones().layer(Idempotency::new(MemoryStore::new())).with_state(app.clone());
    let why = "no `PostgresStore`";
    let answer = post("/one").key(fresh_key()).send(&in_memory).await;
    assert_eq!(answer.problem(), (500, "misconfigured".to_owned()));
    assert_misconfigured(&ones().with_state(app.clone()), "/other", why).await;
    assert_eq!(app.runs.get(), 0);
}

/// Uses its transaction before there is one.
struct Early;

impl<S: Sync> FromRequestParts<S> for Early {
    type Rejection = TxRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, TxRejection> {
        let mut tx = Tx::<idempotent_axum::ReadCommitted>::from_request_parts(parts, state).await?;
        insert(&mut tx, "early").await.expect("it never gets here");
        Ok(Self)
    }
}

#[idempotent]
async fn early(_: Early) {}

async fn without_the_attribute(mut tx: Tx) {
    insert(&mut tx, "alone").await.expect("it never gets here");
}

#[tokio::test]
async fn one_that_is_used_before_its_time_or_without_the_attribute_panics_with_what_to_do() {
    let routes =
        Router::new().route("/early", route(early)).route("/alone", route(without_the_attribute));
    let bank = Bank::open(routes).await;
    for path in ["/early", "/alone"] {
        for ask in [post(path).key(fresh_key()), post(path)] {
            let panic = ask.spawn(&bank.router).await.expect_err("it panics").into_panic();
            let message = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            assert!(message.contains("of an `#[idempotent]` handler"), "{path}: {message}");
        }
    }
    assert!(bank.payments().is_empty());
}

/// Takes a transaction without keeping it.
struct Passing;

impl<S: Sync> FromRequestParts<S> for Passing {
    type Rejection = TxRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, TxRejection> {
        Tx::<idempotent_axum::Serializable>::from_request_parts(parts, state).await?;
        Ok(Self)
    }
}

#[idempotent]
async fn passing(_: Passing, mut tx: Tx) -> Result<String, TxError> {
    insert(&mut tx, "passed on").await
}

#[tokio::test]
async fn one_that_was_dropped_before_it_began_is_there_for_another() {
    let bank = Bank::open(Router::new().route("/pay", route(passing))).await;
    for ask in [post("/pay").key(fresh_key()), post("/pay")] {
        assert_eq!(ask.send(&bank.router).await.status, StatusCode::OK);
    }
    assert_eq!(bank.payments().len(), 2);
}
