//! A handler with a `Tx`: its decisions are reported once, and so are the calls its transaction makes.

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::post as route,
};
use idempotent_axum::{Decision, StoreVerb, Tx, TxError, idempotent};
use idempotent_test_support::{fresh_key, post};

use super::Heard;
use crate::exactly_once::bank::{App, Bank, insert};

/// Its status is in the request; some requests are large, wait or break.
#[idempotent(wait = "1h")]
async fn pay(State(app): State<App>, mut tx: Tx, body: Bytes) -> Result<Response, TxError> {
    let body = String::from_utf8_lossy(&body).into_owned();
    insert(&mut tx, &body).await?;
    Ok(match &*body {
        "waits" => {
            app.gate.pass().await;
            (StatusCode::CREATED, body).into_response()
        }
        "large" => "x".repeat(2000).into_response(),
        "fails" => (StatusCode::INTERNAL_SERVER_ERROR, body).into_response(),
        "breaks" => {
            sqlx::query("COMMIT").execute(&mut *tx).await?;
            body.into_response()
        }
        _ => (StatusCode::CREATED, body).into_response(),
    })
}

async fn bank() -> (Bank<'static>, Heard) {
    let heard = Heard::default();
    let routes = Router::new().route("/pay", route(pay));
    let settings = |it: idempotent_axum::Idempotency| heard.listens_to(it.max_response_bytes(1000));
    (Bank::open_with(routes, |store| store, settings).await, heard)
}

#[tokio::test]
async fn what_becomes_of_a_transaction_is_told_once() {
    let (bank, heard) = bank().await;
    for (body, word, retry) in [
        ("rent", ("stored", Some(201)), ("replayed", Some(201))),
        ("large", ("not_storable", Some(200)), ("response_not_stored", None)),
        ("fails", ("released", Some(500)), ("released", Some(500))),
        ("breaks", ("transaction_failed", None), ("outcome_unknown", None)),
    ] {
        let key = fresh_key();
        for expected in [word, retry] {
            post("/pay").key(&key).body(body).send(&bank.router).await;
            assert_eq!(heard.words(), [expected], "{body}");
        }
    }
    let verbs: Vec<_> = heard.calls().iter().map(|call| call.verb).collect();
    for verb in [StoreVerb::Read, StoreVerb::Begin, StoreVerb::Claim, StoreVerb::Commit] {
        assert!(verbs.contains(&verb), "{verb:?} among {verbs:?}");
    }
}

#[tokio::test]
async fn without_a_key_a_transaction_is_told_once_it_is_committed() {
    let (bank, heard) = bank().await;
    post("/pay").body("rent").send(&bank.router).await;
    let told = heard.take();
    assert_eq!((told.len(), told[0].decision), (1, Decision::WithoutKey));
    assert_eq!(told[0].operation, "POST /pay");
    post("/pay").body("breaks").send(&bank.router).await;
    assert_eq!(heard.words(), [("transaction_failed", None)]);
}

#[tokio::test]
async fn a_duplicate_that_waits_for_a_transaction_is_told_to_have_waited() {
    let (bank, heard) = bank().await;
    let key = fresh_key();
    let request = || post("/pay").key(&key).body("waits");
    let first = request().spawn(&bank.router);
    bank.app.gate.arrived.reaches(1).await;
    let duplicate = request().spawn(&bank.router);
    while heard.calls().iter().filter(|call| call.verb == StoreVerb::Read).nth(1).is_none() {
        tokio::task::yield_now().await;
    }
    bank.app.gate.open(1);
    assert_eq!(first.await.unwrap().status, 201);
    assert!(duplicate.await.unwrap().is_replay());
    let told = heard.take();
    let words: Vec<_> = told.iter().map(|told| told.decision.as_str()).collect();
    assert_eq!(words, ["stored", "replayed"]);
    assert!(told[0].has_run && !told[0].has_waited && told[1].has_waited);
}
