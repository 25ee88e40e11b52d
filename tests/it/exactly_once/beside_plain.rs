//! Handlers with and without a transaction under one `scope`: they wait for each other, and one runs.

use axum::{Router, extract::State, http::StatusCode, routing::post as route};
use idempotent_axum::{Tx, TxError, idempotent};
use idempotent_test_support::{Answer, fresh_key, post};
use tokio::task::JoinSet;

use super::{App, Bank, insert};

#[idempotent(wait = "60s", scope = "payments", fingerprint = "none")]
async fn pay(
    State(app): State<App>,
    mut tx: Tx,
    body: String,
) -> Result<(StatusCode, String), TxError> {
    let run = app.runs.add();
    insert(&mut tx, &body).await?;
    app.gate.pass().await;
    Ok((status(&body), format!("run {run} in a transaction")))
}

#[idempotent(wait = "60s", scope = "payments", fingerprint = "none")]
async fn plain(State(app): State<App>, body: String) -> (StatusCode, String) {
    let run = app.runs.add();
    app.gate.pass().await;
    (status(&body), format!("run {run} by itself"))
}

/// A failure if the request asks for one.
fn status(body: &str) -> StatusCode {
    if body == "fails" { StatusCode::BAD_REQUEST } else { StatusCode::CREATED }
}

async fn bank() -> Bank<'static> {
    Bank::open(Router::new().route("/pay", route(pay)).route("/plain", route(plain))).await
}

async fn ask(bank: &Bank<'_>, path: &'static str, key: &str, body: &'static str) -> Answer {
    post(path).key(key).body(body).send(&bank.router).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_waits_for_the_other_and_replays_it() {
    let bank = bank().await;
    for (first, second) in [("/pay", "/plain"), ("/plain", "/pay")] {
        let run = bank.app.runs.get();
        let key = fresh_key();
        let running = post(first).key(&key).body("rent").spawn(&bank.router);
        bank.app.gate.arrived.reaches(run + 1).await;
        let waits = post(second).key(&key).body("rent").spawn(&bank.router);
        bank.app.gate.open(1);
        let (ran, replay) = (running.await.unwrap(), waits.await.unwrap());
        assert_eq!((ran.status, ran.is_replay()), (StatusCode::CREATED, false));
        assert_eq!((replay.is_replay(), replay.body), (true, ran.body), "{second}");
        assert_eq!(bank.app.runs.get(), run + 1);
    }
    assert_eq!(bank.payments().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_takes_over_from_the_other_that_fails() {
    let bank = bank().await;
    for (first, second, rows) in [("/pay", "/plain", 0), ("/plain", "/pay", 1)] {
        let run = bank.app.runs.get();
        let key = fresh_key();
        let fails = post(first).key(&key).body("fails").spawn(&bank.router);
        bank.app.gate.arrived.reaches(run + 1).await;
        let waits = post(second).key(&key).body("rent").spawn(&bank.router);
        bank.app.gate.open(2);
        assert_eq!(fails.await.unwrap().status, StatusCode::BAD_REQUEST);
        let ran = waits.await.unwrap();
        assert_eq!((ran.status, ran.is_replay()), (StatusCode::CREATED, false), "{second}");
        assert_eq!((bank.app.runs.get(), bank.payments().len()), (run + 2, rows));
        assert!(ask(&bank, first, &key, "rent").await.is_replay());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_come_at_once_one_runs_whichever_kind_it_is() {
    let bank = bank().await;
    bank.app.gate.open_for_good();
    let other =
        bank.second_instance(Router::new().route("/pay", route(pay)).route("/plain", route(plain)));
    let other = other.await;
    other.app.gate.open_for_good();
    let (mut in_transactions, mut alone) = (0, 0);
    for round in 1..=40 {
        let key = fresh_key();
        let requests = [&bank, &other].into_iter().flat_map(|bank| {
            ["/pay", "/plain", "/pay", "/plain"].map(|path| {
                let (router, ask) = (bank.router.clone(), post(path).key(&key).body("rent"));
                async move { ask.send(&router).await }
            })
        });
        let answers = requests.collect::<JoinSet<_>>().join_all().await;
        assert_eq!(answers.iter().filter(|answer| !answer.is_replay()).count(), 1);
        assert!(answers.iter().all(|it| it.status == 201 && it.body == answers[0].body));
        if answers[0].text().ends_with("in a transaction") {
            in_transactions += 1;
        } else {
            alone += 1;
        }
        assert_eq!(bank.app.runs.get() + other.app.runs.get(), round);
        assert_eq!(bank.payments().len(), in_transactions);
    }
    assert!(alone > 0, "a plain claim takes fewer steps");
}
