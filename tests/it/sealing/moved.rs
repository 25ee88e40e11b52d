//! Somebody who can write to a real server changes its rows: sealed records do not open under
//! another key or fingerprint, whether they are a request's, a transaction's or a job's.

use axum::{Router, extract::State, routing::post as route};
use idempotent_axum::{Idempotency, RunError, Tx, TxError, idempotent};
use idempotent_test_support::{Answer, fresh_key, post};

use super::old;
use crate::exactly_once::bank::{App, Bank, insert};

#[idempotent(format = "any", principal = "everyone")]
async fn plain(State(app): State<App>, body: String) -> String {
    format!("{body}, run {}", app.runs.add())
}

#[idempotent(format = "any", principal = "everyone")]
async fn transaction(State(app): State<App>, mut tx: Tx, body: String) -> Result<String, TxError> {
    app.runs.add();
    insert(&mut tx, &body).await
}

/// Commits on its own, so its claim stays, which says that the outcome is unknown.
#[idempotent]
async fn premature(State(app): State<App>, mut tx: Tx) -> Result<&'static str, TxError> {
    app.runs.add();
    insert(&mut tx, "premature").await?;
    sqlx::raw_sql("COMMIT").execute(&mut *tx).await?;
    Ok("done")
}

async fn bank() -> Bank<'static> {
    let routes = Router::new()
        .route("/plain", route(plain))
        .route("/transaction", route(transaction))
        .route("/premature", route(premature));
    Bank::open_with(routes, |store| store, |idempotency| idempotency.seal(old())).await
}

async fn send(bank: &Bank<'_>, path: &str, key: &str) -> Answer {
    post(path).key(key).body("rent").send(&bank.router).await
}

fn unknown() -> (u16, String) {
    (409, "outcome_unknown".to_owned())
}

fn digest(idempotency: &Idempotency, path: &str, key: &str) -> String {
    let operation = idempotency.operation(format!("POST {path}")).principal("everyone");
    operation.key_exact(key).digest().to_string()
}

#[tokio::test]
async fn a_record_that_is_moved_to_another_key_does_not_open() {
    for path in ["/plain", "/transaction"] {
        let bank = bank().await;
        let (from, to) = (fresh_key(), fresh_key());
        for key in [&from, &to] {
            assert_eq!(send(&bank, path, key).await.status, 200);
        }
        let runs = bank.app.runs.get();
        let [from_row, to_row] = [&from, &to].map(|key| digest(&bank.idempotency, path, key));
        // The record and its token; the fingerprint stays, salted with its own key.
        bank.query(&format!(
            "UPDATE idempotency_keys AS t SET record = f.record, token = f.token
             FROM idempotency_keys AS f
             WHERE t.key = decode('{to_row}', 'hex') AND f.key = decode('{from_row}', 'hex')"
        ));
        assert_eq!(send(&bank, path, &to).await.problem(), unknown());
        assert!(send(&bank, path, &from).await.is_replay(), "of the one that is where it was");
        assert_eq!(bank.app.runs.get(), runs, "nothing runs again");
    }
}

#[tokio::test]
async fn a_record_whose_fingerprint_is_changed_does_not_open() {
    for path in ["/plain", "/transaction"] {
        let bank = bank().await;
        let [key, other] = [fresh_key(), fresh_key()];
        assert_eq!(send(&bank, path, &key).await.status, 200);
        let [row, other_row] = [&key, &other].map(|key| digest(&bank.idempotency, path, key));
        let reused = post(path).key(&key).body("other");
        assert_eq!(reused.send(&bank.router).await.problem().0, 422);
        let another = post(path).key(&other).body("other");
        assert_eq!(another.send(&bank.router).await.status, 200);
        bank.query(&format!(
            "UPDATE idempotency_keys AS t SET fingerprint = f.fingerprint
             FROM idempotency_keys AS f
             WHERE t.key = decode('{row}', 'hex') AND f.key = decode('{other_row}', 'hex')"
        ));
        let runs = bank.app.runs.get();
        assert_eq!(send(&bank, path, &key).await.problem(), unknown());
        let reused = post(path).key(&key).body("other");
        assert_eq!(reused.send(&bank.router).await.problem(), unknown());
        assert_eq!(bank.app.runs.get(), runs, "nothing runs again");
    }
}

#[tokio::test]
async fn what_a_transactions_claim_leaves_behind_is_sealed() {
    let bank = bank().await;
    let key = fresh_key();
    assert_eq!(send(&bank, "/premature", &key).await.status, 500);
    assert_eq!(send(&bank, "/premature", &key).await.problem(), unknown());
    assert_eq!((bank.app.runs.get(), bank.payments().len()), (1, 1));
    let flags = bank.query("SELECT get_byte(record, 4) FROM idempotency_keys");
    assert_eq!(flags, "1", "it opens, and says that the outcome is not known");
}

#[tokio::test]
async fn the_value_of_a_job_does_not_open_elsewhere() {
    for is_in_transaction in [false, true] {
        let bank = bank().await;
        let job = |key: &'static str| bank.idempotency.operation("charge").key(key);
        let run = async |key| {
            if is_in_transaction {
                job(key)
                    .run_tx(|tx: Tx, _| async move {
                        drop(tx);
                        Ok::<_, ()>(7_u8)
                    })
                    .await
            } else {
                job(key).run(async |_| Ok::<_, ()>(7_u8)).await
            }
        };
        for key in ["message-1", "message-2"] {
            assert_eq!(run(key).await.unwrap().value, 7);
        }
        let [from, to] = ["message-1", "message-2"].map(|key| job(key).digest().to_string());
        bank.query(&format!(
            "UPDATE idempotency_keys AS t SET record = f.record
             FROM idempotency_keys AS f
             WHERE t.key = decode('{to}', 'hex') AND f.key = decode('{from}', 'hex')"
        ));
        assert!(matches!(run("message-2").await, Err(RunError::OutcomeUnknown)));
        assert!(run("message-1").await.unwrap().replayed);
    }
}
