//! Under `SERIALIZABLE`, the claims of transactions conflict with nothing.

use axum::{Router, extract::State, http::StatusCode, routing::post as route};
use idempotent_axum::{Serializable, Tx, TxError, idempotent};
use idempotent_test_support::{fresh_key, post};
use tokio::task::JoinSet;

use super::{App, Bank};

/// Reads and writes what nobody else does.
#[idempotent]
async fn pay(
    State(app): State<App>,
    mut tx: Tx<Serializable>,
    account: String,
) -> Result<StatusCode, TxError> {
    app.runs.add();
    let table = format!("account_{account}");
    for sql in [
        format!("SELECT sum(amount) FROM {table}"),
        format!("INSERT INTO {table} SELECT count(*) FROM {table}"),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *tx).await?;
    }
    Ok(StatusCode::CREATED)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_have_nothing_in_common_are_never_in_conflict() {
    const CLIENTS: usize = 8;
    const REQUESTS: usize = 40;
    let bank = Bank::open(Router::new().route("/pay", route(pay))).await;
    for account in 0..CLIENTS {
        bank.query(&format!("CREATE TABLE account_{account} (amount int)"));
    }
    // All keys are on one page at first, and the table's statistics list none.
    let clients = (0..CLIENTS).map(|account| {
        let router = bank.router.clone();
        async move {
            for _ in 0..REQUESTS {
                let ask = post("/pay").key(fresh_key()).body(account.to_string());
                let answer = ask.send(&router).await;
                assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
            }
        }
    });
    clients.collect::<JoinSet<_>>().join_all().await;
    assert_eq!(bank.app.runs.get(), CLIENTS * REQUESTS);
    assert_eq!(bank.keys(), CLIENTS * REQUESTS);
}

/// Two of them read what the other writes.
#[idempotent]
async fn skew(
    State(app): State<App>,
    mut tx: Tx<Serializable>,
    name: String,
) -> Result<StatusCode, TxError> {
    sqlx::query("SELECT count(*) FROM payments").execute(&mut *tx).await?;
    app.gate.pass().await;
    sqlx::query("INSERT INTO payments (reference) VALUES ($1)")
        .bind(name)
        .execute(&mut *tx)
        .await?;
    Ok(StatusCode::CREATED)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_that_are_in_conflict_is_told_to_come_again() {
    let bank = Bank::open(Router::new().route("/pay", route(skew))).await;
    let (one, other) = (fresh_key(), fresh_key());
    let ask = |key: &str, name: &'static str| post("/pay").key(key).body(name);
    let asked =
        [(&one, "one"), (&other, "other")].map(|(key, name)| ask(key, name).spawn(&bank.router));
    bank.app.gate.arrived.reaches(2).await;
    bank.app.gate.open(2);
    let mut conflicts = 0;
    for asked in asked {
        let answer = asked.await.unwrap();
        if answer.status == StatusCode::SERVICE_UNAVAILABLE {
            assert_eq!(answer.problem().1, "store_unavailable");
            assert!(answer.header("retry-after").is_some());
            conflicts += 1;
        }
    }
    assert_eq!(conflicts, 1);
    assert_eq!(bank.payments().len(), 1);
    bank.app.gate.open_for_good();
    for (key, name) in [(&one, "one"), (&other, "other")] {
        assert_eq!(ask(key, name).send(&bank.router).await.status, StatusCode::CREATED);
    }
    assert_eq!(bank.payments().len(), 2);
}
