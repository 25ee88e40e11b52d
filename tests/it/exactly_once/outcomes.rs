//! What becomes of the rows and the key, depending on the handler's answer.

use std::{io, pin::pin, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::post as route,
};
use idempotent_axum::{Idempotency, Outcome, Tx, TxError, idempotent};
use idempotent_test_support::{Answer, Gate, frames, fresh_key, is_pending, post};
use tokio::task::JoinHandle;
use tower_http::catch_panic::CatchPanicLayer;

use super::{App, Bank, insert};

/// Writes a row, and then does what `what` says.
#[idempotent(wait = "60s")]
async fn pay(State(app): State<App>, mut tx: Tx, what: String) -> Result<Response, TxError> {
    app.runs.add();
    insert(&mut tx, &what).await?;
    let created = StatusCode::CREATED;
    let stream = [(header::CONTENT_TYPE, "text/event-stream")];
    Ok(match &*what {
        "stored" => (created, "done").into_response(),
        "refused" => StatusCode::BAD_REQUEST.into_response(),
        "final" => (StatusCode::PAYMENT_REQUIRED, Outcome::Final, "declined").into_response(),
        "retryable" => (Outcome::Retryable, "again").into_response(),
        "unknown" => (StatusCode::GATEWAY_TIMEOUT, Outcome::Unknown, ()).into_response(),
        "large" => (created, "x".repeat(LARGE)).into_response(),
        "stream" => (stream, "data: 1\n\n").into_response(),
        "failed stream" => (StatusCode::BAD_GATEWAY, stream, "data: 1\n\n").into_response(),
        "upgrade" => StatusCode::SWITCHING_PROTOCOLS.into_response(),
        "slow" => {
            let (sender, body) = frames();
            sender.data("slow");
            tokio::spawn(async move {
                app.gate.pass().await;
                drop(sender);
            });
            (created, body).into_response()
        }
        "broken" => {
            let (sender, body) = frames();
            sender.data("some");
            sender.send(Err(io::Error::other("the disk is gone")));
            (created, body).into_response()
        }
        "panic" => panic!("as it was asked to"),
        "swallowed" => {
            let failed = sqlx::query("SELECT 1 / 0").execute(&mut *tx).await;
            assert!(failed.is_err());
            (created, "done").into_response()
        }
        "deferred" => {
            sqlx::query("INSERT INTO transfers VALUES (0)").execute(&mut *tx).await?;
            (created, "done").into_response()
        }
        "serialization" => return raise(&mut tx, "40001").await,
        "deadlock" => return raise(&mut tx, "40P01").await,
        "constraint" => return raise(&mut tx, "23514").await,
        other => panic!("no such request: {other}"),
    })
}

const LARGE: usize = 2000;

/// Runs a statement that fails with this code.
async fn raise(tx: &mut Tx, code: &'static str) -> Result<Response, TxError> {
    let sql = format!("DO $$ BEGIN RAISE EXCEPTION SQLSTATE '{code}'; END $$");
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut **tx).await?;
    unreachable!("it raises")
}

pub(super) fn routes() -> Router<App> {
    Router::new().route("/pay", route(pay)).layer(CatchPanicLayer::new())
}

pub(super) fn settings(idempotency: Idempotency) -> Idempotency {
    idempotency.max_response_bytes(LARGE - 1).max_capture_time(Duration::from_millis(50))
}

/// The whole response.
async fn read(response: Response) -> Result<Answer, axum::Error> {
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, LARGE).await?;
    Ok(Answer { status: parts.status, headers: parts.headers, body })
}

/// What a caller sees: the status, and the code of a problem.
fn seen(answer: &Answer) -> (u16, String) {
    let is_problem = answer.header(header::CONTENT_TYPE) == Some("application/problem+json");
    if is_problem {
        let (status, code) = answer.problem();
        let is_passing = status == 503 || code == "request_in_progress";
        assert_eq!(answer.header(header::RETRY_AFTER).is_some(), is_passing, "{answer:?}");
    }
    let replay = if answer.is_replay() { "replay" } else { "" };
    let text = if is_problem { answer.problem().1 } else { replay.to_owned() };
    (answer.status.as_u16(), text)
}

/// How a request ends, and its retry.
struct Case(&'static str, (u16, &'static str), Then);

enum Then {
    /// The row is there, and a retry gets this.
    Committed(u16, &'static str),
    /// The row is not there, and a retry runs again.
    RolledBack,
}

const CASES: [Case; 17] = [
    Case("stored", (201, ""), Then::Committed(201, "replay")),
    Case("refused", (400, ""), Then::RolledBack),
    Case("final", (402, ""), Then::Committed(402, "replay")),
    Case("retryable", (200, ""), Then::RolledBack),
    Case("unknown", (504, ""), Then::Committed(409, "outcome_unknown")),
    Case("large", (201, ""), Then::Committed(409, "response_not_stored")),
    Case("stream", (200, ""), Then::Committed(409, "response_not_stored")),
    Case("failed stream", (502, ""), Then::RolledBack),
    Case("upgrade", (101, ""), Then::Committed(409, "response_not_stored")),
    Case("panic", (500, ""), Then::RolledBack),
    Case("swallowed", (500, "transaction_failed"), Then::RolledBack),
    Case("deferred", (500, "transaction_failed"), Then::RolledBack),
    Case("serialization", (503, "store_unavailable"), Then::RolledBack),
    Case("deadlock", (503, "store_unavailable"), Then::RolledBack),
    Case("constraint", (500, "transaction_failed"), Then::RolledBack),
    // Incomplete bodies.
    Case("slow", (201, ""), Then::Committed(409, "response_not_stored")),
    Case("broken", (201, ""), Then::RolledBack),
];

#[tokio::test]
async fn rows_and_key_follow_the_response() {
    assert_followed(&Bank::open_with(routes(), |store| store, settings).await).await;
}

/// Each transfer is for a different payment, which is checked at commit.
pub(super) const TRANSFERS: &str = "CREATE TABLE IF NOT EXISTS transfers
    (payment bigint REFERENCES payments DEFERRABLE INITIALLY DEFERRED)";

/// Requests each case, then again.
pub(super) async fn assert_followed(bank: &Bank<'_>) {
    bank.query(TRANSFERS);
    for Case(what, (status, code), then) in CASES {
        let (runs, rows) = (bank.app.runs.get(), bank.payments().len());
        let key = fresh_key();
        let ask = || post("/pay").key(&key).body(what);
        let response = ask().begin(&bank.router).await;
        // It is held back for `max_capture_time`, and ends after that.
        if what == "slow" {
            bank.app.gate.open(1);
        }
        let first = read(response).await;
        match first {
            Ok(first) => assert_eq!(seen(&first), (status, code.to_owned()), "{what}"),
            Err(_) => assert_eq!(what, "broken", "a body is passed on as it is"),
        }
        let (more_rows, more_runs, again) = match then {
            Then::Committed(status, text) => (1, 1, Some((status, text.to_owned()))),
            Then::RolledBack => (0, 2, None),
        };
        if let Some(again) = again {
            assert_eq!(seen(&ask().send(&bank.router).await), again, "{what}");
        } else {
            ask().begin(&bank.router).await;
        }
        assert_eq!(bank.app.runs.get(), runs + more_runs, "{what}");
        assert_eq!(bank.payments().len(), rows + more_rows, "{what}");
    }
}

#[tokio::test]
async fn without_a_key_rows_follow_the_head_of_the_response() {
    let bank = Bank::open_with(routes(), |store| store, settings).await;
    assert_followed_without_a_key(&bank).await;
    assert_eq!(bank.keys(), 0);
}

/// Requests each case.
pub(super) async fn assert_followed_without_a_key(bank: &Bank<'_>) {
    bank.query(TRANSFERS);
    bank.app.gate.open_for_good();
    for Case(what, (status, code), then) in CASES {
        let rows = bank.payments().len();
        match read(post("/pay").body(what).begin(&bank.router).await).await {
            Ok(answer) => assert_eq!(seen(&answer), (status, code.to_owned()), "{what}"),
            Err(_) => assert_eq!(what, "broken", "a body is passed on as it is"),
        }
        // Nothing is held back, so how its body ends does not matter.
        let more = usize::from(matches!(then, Then::Committed(..)) || what == "broken");
        assert_eq!(bank.payments().len(), rows + more, "{what}");
    }
}

/// Stops mid-run, with its row written.
#[idempotent(wait = "60s")]
async fn gated(State(app): State<App>, mut tx: Tx, reference: String) -> Result<String, TxError> {
    app.runs.add();
    let paid = insert(&mut tx, &reference).await?;
    app.gate.pass().await;
    Ok(paid)
}

/// A request that has stopped at the gate.
async fn at_gate(gate: &Gate, arrived: usize, request: JoinHandle<Answer>) -> JoinHandle<Answer> {
    gate.arrived.reaches(arrived).await;
    request
}

#[tokio::test]
async fn a_caller_that_leaves_gets_its_rows_and_response_with_the_retry() {
    let bank = Bank::open(Router::new().route("/pay", route(gated))).await;
    let key = fresh_key();
    let ask = || post("/pay").key(&key).body("rent");
    let leaves = at_gate(&bank.app.gate, 1, ask().spawn(&bank.router)).await;
    leaves.abort();
    assert!(leaves.await.expect_err("it has left").is_cancelled());
    assert!(bank.payments().is_empty());
    {
        let mut drains = pin!(bank.idempotency.drain());
        assert!(is_pending(drains.as_mut()).await);
        bank.app.gate.open(1);
        drains.await;
    }
    assert_eq!(bank.payments(), ["rent"]);
    let retry = ask().send(&bank.router).await;
    assert_eq!((retry.is_replay(), retry.text()), (true, "payment 1 of rent"));
    assert_eq!((bank.payments().len(), bank.app.runs.get()), (1, 1));
}

#[tokio::test]
async fn a_caller_that_leaves_without_a_key_leaves_no_rows() {
    let store = |store: idempotent_axum::PostgresStoreBuilder| store.max_transactions(1);
    let routes = Router::new().route("/pay", route(gated));
    let bank = Bank::open_with(routes, store, |idempotency| idempotency).await;
    let leaves = post("/pay").body("rent").spawn(&bank.router);
    let leaves = at_gate(&bank.app.gate, 1, leaves).await;
    leaves.abort();
    assert!(leaves.await.expect_err("it has left").is_cancelled());
    // The only transaction is free again.
    bank.app.gate.open(1);
    let next = post("/pay").body("food").send(&bank.router).await;
    assert_eq!(next.status, StatusCode::OK);
    assert_eq!(bank.payments(), ["food"]);
}

#[idempotent]
async fn empty(_: Tx) -> Body {
    Body::empty()
}

#[tokio::test]
async fn an_empty_response_is_one() {
    let bank = Bank::open(Router::new().route("/pay", route(empty))).await;
    let key = fresh_key();
    for is_replay in [false, true] {
        let answer = post("/pay").key(&key).send(&bank.router).await;
        assert_eq!((answer.status, answer.is_replay()), (StatusCode::OK, is_replay));
    }
}
