//! What a request costs the server in each mode: the figures of the page "Exactly once".

use axum::{Extension, Router, extract::State, http::StatusCode, routing::post as route};
use idempotent_axum::{Tx, TxError, idempotent};
use idempotent_test_support::{fresh_key, post};
use sqlx::{PgPool, postgres::PgPoolOptions};
use test_servers::{Postgres, Proxy};

use super::{App, Bank, insert};

const PAGE: &str = include_str!("../../../docs/exactly-once.md");
const REQUESTS: usize = 200;

type Paid = Result<(StatusCode, String), TxError>;

async fn in_own_transaction(pool: &PgPool) -> Paid {
    let mut transaction = pool.begin().await?;
    let paid = insert(&mut transaction, "rent").await?;
    transaction.commit().await?;
    Ok((StatusCode::CREATED, paid))
}

async fn unprotected(Extension(pool): Extension<PgPool>) -> Paid {
    in_own_transaction(&pool).await
}

#[idempotent]
async fn beside(Extension(pool): Extension<PgPool>) -> Paid {
    in_own_transaction(&pool).await
}

#[idempotent]
async fn in_tx(State(_): State<App>, mut tx: Tx) -> Paid {
    Ok((StatusCode::CREATED, insert(&mut tx, "rent").await?))
}

#[idempotent]
async fn fails(mut tx: Tx) -> Result<StatusCode, TxError> {
    insert(&mut tx, "rent").await?;
    Ok(StatusCode::BAD_REQUEST)
}

/// What the server has done so far: round trips, commits that wrote something, bytes of WAL.
fn spent(server: &Postgres, proxy: &Proxy) -> [usize; 3] {
    let row = server.execute(
        "SELECT pg_snapshot_xmax(pg_current_snapshot()),
            pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')",
    );
    let (transactions, log) = row.trim().split_once('|').expect("two columns");
    [proxy.requests(), transactions.parse().expect("a number"), log.parse().expect("a number")]
}

/// The figures in the page's row that begins with `what`.
fn documented(what: &str) -> [usize; 3] {
    let row = PAGE.lines().find(|line| line.starts_with(&format!("| {what} |")));
    let row = row.unwrap_or_else(|| panic!("the page has no row {what:?}"));
    let figures = row.split('|').skip(2).take(3).map(|cell| {
        let figure = cell.trim().trim_end_matches(" B");
        figure.parse().unwrap_or_else(|_| panic!("{what}: {figure:?} is not a number"))
    });
    figures.collect::<Vec<_>>().try_into().expect("three columns")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_costs_what_the_page_says() {
    let server = Postgres::start_with(&["autovacuum=off", "full_page_writes=off"]);
    let proxy = Proxy::start(server.address());
    let url = server.url_through(&proxy);
    let pool = PgPoolOptions::new().test_before_acquire(false).connect_lazy(&url).unwrap();
    let routes = Router::new()
        .route("/unprotected", route(unprotected))
        .route("/beside", route(beside))
        .route("/tx", route(in_tx))
        .route("/fails", route(fails))
        .layer(Extension(pool));
    let bank = Bank::open_at(&server, &url, routes, |store| store, |it| it).await;
    for (what, path, is_replay) in [
        ("no idempotency, a transaction of the handler's own", "/unprotected", false),
        ("`#[idempotent]`, a transaction of the handler's own", "/beside", false),
        ("`#[idempotent]` with `Tx`", "/tx", false),
        ("a replay, in either mode", "/tx", true),
        ("a handler with `Tx` that fails", "/fails", false),
        ("a handler with `Tx` without a key", "/tx", false),
    ] {
        let once = fresh_key();
        let ask = async || {
            let key = if is_replay { once.clone() } else { fresh_key() };
            let ask = post(path);
            let ask = if what.ends_with("without a key") { ask } else { ask.key(key) };
            let answer = ask.send(&bank.router).await;
            assert_eq!(answer.status, if path == "/fails" { 400 } else { 201 });
        };
        // Statements get prepared, and pages allocated.
        for _ in 0..10 {
            ask().await;
        }
        let before = spent(&server, &proxy);
        for _ in 0..REQUESTS {
            ask().await;
        }
        let after = spent(&server, &proxy);
        let [trips, commits, log] = [0, 1, 2].map(|it| after[it] - before[it]);
        // Now and then the pool opens a connection, or checks one that it gets back.
        let per_request = |count| (count + REQUESTS / 2) / REQUESTS;
        let [trips, commits] = [trips, commits].map(per_request);
        println!("| {what} | {trips} | {commits} | {} B |", per_request(log));
        let [said_trips, said_commits, said_log] = documented(what);
        assert_eq!((trips, commits), (said_trips, said_commits), "{what}");
        let near = said_log * REQUESTS * 4 / 5..=said_log * REQUESTS * 6 / 5;
        assert!(near.contains(&log), "{what}: {} bytes of log, not {said_log}", log / REQUESTS);
    }
}
