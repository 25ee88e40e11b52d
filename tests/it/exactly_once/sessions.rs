//! The server's sessions: what ends them, what sits in front of them, and that nothing is left in them.

use axum::{Router, extract::State, http::StatusCode, routing::post as route};
use idempotent_axum::{PostgresStoreBuilder, Tx, TxError, idempotent};
use idempotent_test_support::{fresh_key, post};
use test_servers::{PgBouncer, PoolMode, Postgres};
use tokio::task::JoinSet;

use super::{App, Bank, insert, misuse, outcomes, until};

/// Asserts that no session is in a transaction or holds a lock, and that none was told to end a
/// transaction that it was not in.
async fn assert_nothing_left(server: &Postgres) {
    for left in [
        "SELECT count(*) FROM pg_stat_activity WHERE state ~ 'idle in transaction'",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
    ] {
        until(left, || server.execute(left).trim() == "0").await;
    }
    let log = server.log();
    assert!(log.contains("division by zero"), "the log has what handlers do: {log}");
    assert!(!log.contains("transaction in progress"), "{log}");
}

#[tokio::test]
async fn nothing_is_left_of_all_that_handlers_do() {
    let server = Postgres::start();
    let (url, routes) = (server.url(), outcomes::routes());
    let bank = Bank::open_at(&server, &url, routes, |store| store, outcomes::settings).await;
    outcomes::assert_followed(&bank).await;
    outcomes::assert_followed_without_a_key(&bank).await;
    misuse::assert_noticed(&bank.second_instance(misuse::routes()).await).await;
    assert_nothing_left(&server).await;
}

fn pooled(store: PostgresStoreBuilder) -> PostgresStoreBuilder {
    store.transaction_pooler()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_a_transaction_pooler_all_of_it_is_the_same() {
    let server = Postgres::start();
    let pooler = PgBouncer::start_with(
        &server,
        PoolMode::Transaction,
        &["default_pool_size = 4", "server_reset_query ="],
    );
    let bank =
        Bank::open_at(&server, &pooler.url(), outcomes::routes(), pooled, outcomes::settings).await;
    // More clients than sessions, with the same statement names.
    let clients = (0..8).map(|client| {
        let router = bank.router.clone();
        async move {
            for _ in 0..20 {
                let key = fresh_key();
                for is_replay in [false, true] {
                    let answer = post("/pay").key(&key).body("stored").send(&router).await;
                    assert_eq!((answer.status.as_u16(), answer.is_replay()), (201, is_replay));
                }
            }
            client
        }
    });
    clients.collect::<JoinSet<_>>().join_all().await;
    assert_eq!(bank.payments().len(), 160);
    outcomes::assert_followed(&bank).await;
    outcomes::assert_followed_without_a_key(&bank).await;
    assert_nothing_left(&server).await;
}

/// Writes a row, and then looks again if it is asked to.
#[idempotent(wait = "0s")]
async fn pay(
    State(app): State<App>,
    mut tx: Tx,
    body: String,
) -> Result<(StatusCode, String), TxError> {
    app.runs.add();
    let paid = insert(&mut tx, &body).await?;
    app.gate.pass().await;
    if body == "looks" {
        sqlx::query("SELECT 1").execute(&mut *tx).await?;
    }
    Ok((StatusCode::CREATED, paid))
}

#[tokio::test]
async fn a_session_that_was_idle_for_too_long_or_was_ended_is_503() {
    let server = Postgres::start();
    let url = server.url() + "?options=-c%20idle_in_transaction_session_timeout%3D100";
    let routes = Router::new().route("/pay", route(pay));
    let bank = Bank::open_at(&server, &url, routes, |store| store, |it| it).await;
    let idle = "SELECT count(*) FROM pg_stat_activity WHERE state ~ 'idle in transaction'";
    let mut runs = 0;
    for body in ["writes", "looks"] {
        for key in [Some(fresh_key()), None] {
            let ask = || {
                let ask = post("/pay").body(body);
                match &key {
                    Some(key) => ask.key(key),
                    None => ask,
                }
            };
            let asked = ask().spawn(&bank.router);
            runs += 1;
            bank.app.gate.arrived.reaches(runs).await;
            until("its session is ended", || server.execute(idle).trim() == "0").await;
            bank.app.gate.open(1);
            let answer = asked.await.unwrap();
            assert_eq!(answer.problem(), (503, "store_unavailable".to_owned()), "{body} {key:?}");
            assert!(answer.header("retry-after").is_some());
            assert!(bank.payments().is_empty());
        }
    }
    // A retry runs.
    bank.app.gate.open_for_good();
    let answer = post("/pay").key(fresh_key()).body("writes").send(&bank.router).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(bank.payments().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_under_a_handler_is_503_and_leaves_no_row() {
    let server = Postgres::start();
    let routes = Router::new().route("/pay", route(pay));
    let bank = Bank::open_at(&server, &server.url(), routes, |store| store, |it| it).await;
    let key = fresh_key();
    let asked = post("/pay").key(&key).body("writes").spawn(&bank.router);
    bank.app.gate.arrived.reaches(1).await;
    tokio::task::block_in_place(|| server.restart());
    bank.app.gate.open_for_good();
    let answer = asked.await.unwrap();
    assert_eq!(answer.problem(), (503, "store_unavailable".to_owned()));
    assert!(bank.payments().is_empty());
    let retry = post("/pay").key(&key).body("writes").send(&bank.router).await;
    assert_eq!((retry.status, retry.is_replay()), (StatusCode::CREATED, false));
    assert_eq!(bank.payments().len(), 1);
}

#[tokio::test]
async fn out_of_reach_the_store_is_503_whatever_the_service_prefers() {
    let server = Postgres::start();
    let settings = |it: idempotent_axum::Idempotency| {
        it.on_store_error(idempotent_axum::OnStoreError::Execute)
            .store_timeout(std::time::Duration::from_millis(500))
    };
    let routes = Router::new().route("/pay", route(pay));
    let bank = Bank::open_at(&server, &server.url(), routes, |store| store, settings).await;
    server.kill();
    for ask in [post("/pay").key(fresh_key()), post("/pay")] {
        let answer = ask.body("writes").send(&bank.router).await;
        assert_eq!(answer.problem(), (503, "store_unavailable".to_owned()));
    }
    assert_eq!(bank.app.runs.get(), 0);
}
