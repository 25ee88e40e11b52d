//! Duplicates of a run in a transaction: they wait without one, and one of them takes over.

use axum::{Router, extract::State, http::StatusCode, routing::post as route};
use idempotent_axum::{Idempotency, PostgresStoreBuilder, Tx, TxError, idempotent};
use idempotent_test_support::{Answer, fresh_key, post};
use test_servers::Postgres;
use tokio::task::JoinSet;

use super::{App, Bank, insert, until};

/// Stops with its row written; fails if there is nothing to pay.
#[idempotent(wait = "60s", scope = "pay", fingerprint = "none")]
async fn pay(
    State(app): State<App>,
    mut tx: Tx,
    reference: String,
) -> Result<(StatusCode, String), TxError> {
    app.runs.add();
    let paid = insert(&mut tx, &reference).await?;
    app.gate.pass().await;
    let status = if reference == "fails" { StatusCode::BAD_REQUEST } else { StatusCode::CREATED };
    Ok((status, paid))
}

/// The same operation, for those in a hurry.
#[idempotent(wait = "0s", scope = "pay", fingerprint = "none")]
async fn impatient(State(app): State<App>, _: Tx) {
    app.runs.add();
}

/// Without a transaction.
#[idempotent]
async fn plain() -> &'static str {
    "plain"
}

fn routes() -> Router<App> {
    Router::new()
        .route("/pay", route(pay))
        .route("/impatient", route(impatient))
        .route("/plain", route(plain))
}

const DUPLICATES: usize = 50;

/// A server that counts statements.
fn counting() -> Postgres {
    let server = Postgres::start_with(&["shared_preload_libraries=pg_stat_statements"]);
    server.execute("CREATE EXTENSION pg_stat_statements");
    server
}

/// How often the server ran a statement that contains these words.
fn calls(server: &Postgres, words: &str) -> usize {
    let calls = server.execute(&format!(
        "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query ~ '{words}'"
    ));
    calls.trim().parse().expect("a number")
}

const READS: &str = "WITH found AS \\(\\s*SELECT fingerprint, record, ceil";
const POLLS: &str = "^SELECT \\$[0-9]+ WHERE EXISTS";
const BEGINS: &str = "^BEGIN ISOLATION";

fn duplicates(
    bank: &Bank<'_>,
    key: &str,
    count: usize,
    reference: &'static str,
) -> JoinSet<Answer> {
    let ask = || {
        let (router, ask) = (bank.router.clone(), post("/pay").key(key).body(reference));
        async move { ask.send(&router).await }
    };
    (0..count).map(|_| ask()).collect()
}

fn two(store: PostgresStoreBuilder) -> PostgresStoreBuilder {
    store.max_transactions(2)
}

fn assert_replays(answers: &[Answer], text: &str) {
    let replays = answers.iter().filter(|answer| answer.is_replay()).count();
    assert_eq!(replays, answers.len() - 1, "all but the one that ran");
    for answer in answers {
        assert_eq!((answer.status, answer.text()), (StatusCode::CREATED, text));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_duplicates_one_takes_a_transaction_and_a_new_key_gets_the_other() {
    let server = counting();
    let bank = Bank::open_at(&server, &server.url(), routes(), two, |it| it).await;
    let key = fresh_key();
    let asked = duplicates(&bank, &key, DUPLICATES, "rent");
    bank.app.gate.arrived.reaches(1).await;
    // Those that have looked are waiting.
    until("all have looked", || calls(&server, READS) == DUPLICATES).await;
    let new = post("/pay").key(fresh_key()).body("food").spawn(&bank.router);
    bank.app.gate.arrived.reaches(2).await;
    bank.app.gate.open(2);
    assert_eq!(new.await.unwrap().status, StatusCode::CREATED);
    assert_replays(&asked.join_all().await, "payment 1 of rent");
    assert_eq!(bank.payments(), ["rent", "food"]);
    assert_eq!(bank.app.runs.get(), 2);
    // They wait in this process: each looks once more, at the end.
    assert_eq!((calls(&server, POLLS), calls(&server, BEGINS)), (0, 2));
    assert_eq!(calls(&server, READS), 2 * DUPLICATES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_all_transactions_are_in_use_duplicates_wait_and_a_new_key_gets_503() {
    let server = counting();
    let settings = |it: Idempotency| it.store_timeout(std::time::Duration::from_millis(500));
    let bank = Bank::open_at(&server, &server.url(), routes(), two, settings).await;
    let (one, other) = (fresh_key(), fresh_key());
    let rent = duplicates(&bank, &one, DUPLICATES / 2, "rent");
    bank.app.gate.arrived.reaches(1).await;
    let food = duplicates(&bank, &other, DUPLICATES / 2, "food");
    bank.app.gate.arrived.reaches(2).await;
    until("all have looked", || calls(&server, READS) == DUPLICATES).await;

    let key = fresh_key();
    let new = || post("/pay").key(&key).body("books").send(&bank.router);
    let refused = new().await;
    assert_eq!(refused.problem(), (503, "store_unavailable".to_owned()));
    assert!(refused.header("retry-after").is_some());
    let unkeyed = post("/pay").body("books").send(&bank.router).await;
    assert_eq!(unkeyed.problem(), (503, "store_unavailable".to_owned()));
    // Nothing else queues behind them.
    let plain = post("/plain").key(fresh_key()).send(&bank.router).await;
    assert_eq!(plain.text(), "plain");

    bank.app.gate.open_for_good();
    assert_replays(&rent.join_all().await, "payment 1 of rent");
    assert_replays(&food.join_all().await, "payment 2 of food");
    assert_eq!(new().await.status, StatusCode::CREATED);
    assert_eq!(bank.payments(), ["rent", "food", "books"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn if_a_run_is_rolled_back_one_takes_over_and_the_others_wait_for_it() {
    let bank = Bank::open(routes()).await;
    let key = fresh_key();
    let asked = duplicates(&bank, &key, 5, "fails");
    for run in 1..=5 {
        bank.app.gate.arrived.reaches(run).await;
        assert_eq!(bank.app.runs.get(), run, "one at a time");
        bank.app.gate.open(1);
    }
    for answer in asked.join_all().await {
        assert_eq!((answer.status, answer.is_replay()), (StatusCode::BAD_REQUEST, false));
    }
    assert!(bank.payments().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_of_other_instances_share_one_poll_and_see_the_end() {
    let server = counting();
    let owner = Bank::open_at(&server, &server.url(), routes(), two, |it| it).await;
    let other = owner.second_instance(routes()).await;
    let key = fresh_key();
    let running = duplicates(&owner, &key, 1, "rent");
    owner.app.gate.arrived.reaches(1).await;
    let asked = duplicates(&other, &key, DUPLICATES, "rent");
    until("all have looked", || calls(&server, READS) == 1 + DUPLICATES).await;
    until("one polls", || calls(&server, POLLS) > 3).await;
    owner.app.gate.open(1);
    let mut answers = asked.join_all().await;
    answers.extend(running.join_all().await);
    assert_replays(&answers, "payment 1 of rent");
    assert_eq!((other.app.runs.get(), calls(&server, BEGINS)), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_does_not_wait_is_told_so_at_once() {
    let bank = Bank::open(routes()).await;
    let key = fresh_key();
    let running = post("/pay").key(&key).body("rent").spawn(&bank.router);
    bank.app.gate.arrived.reaches(1).await;
    let other = bank.second_instance(routes()).await;
    for instance in [&bank, &other] {
        let answer = post("/impatient").key(&key).send(&instance.router).await;
        assert_eq!(answer.problem(), (409, "request_in_progress".to_owned()));
        assert!(answer.header("retry-after").is_some());
    }
    bank.app.gate.open(1);
    assert_eq!(running.await.unwrap().status, StatusCode::CREATED);
    let replay = post("/impatient").key(&key).send(&other.router).await;
    assert_eq!((replay.is_replay(), replay.text()), (true, "payment 1 of rent"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_instances_that_begin_at_once_one_runs() {
    let bank = Bank::open(routes()).await;
    let other = bank.second_instance(routes()).await;
    bank.app.gate.open_for_good();
    other.app.gate.open_for_good();
    for round in 1..=30 {
        let key = fresh_key();
        let mut asked = duplicates(&bank, &key, 4, "rent");
        let second = duplicates(&other, &key, 4, "rent");
        let mut answers = second.join_all().await;
        while let Some(answer) = asked.join_next().await {
            answers.push(answer.unwrap());
        }
        let text = answers[0].text().to_owned();
        assert_replays(&answers, &text);
        assert_eq!(bank.app.runs.get() + other.app.runs.get(), round);
        assert_eq!(bank.payments().len(), round);
    }
}
