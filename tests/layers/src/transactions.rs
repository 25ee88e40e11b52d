//! axum-sqlx-tx: the layer commits after the handler, unless the status is 4xx or 5xx.

use axum::{
    Router,
    extract::{FromRef, State},
    http::StatusCode,
    routing::post as route,
};
use idempotent_axum::{Idempotency, MemoryStore, idempotent};
use idempotent_test_support::{Answer, Ask, Gate, fresh_key, post};
use sqlx::{
    AssertSqlSafe, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tempfile::TempDir;

use crate::{
    Place::{self, Inside, Outside},
    leave, put,
};

type Tx = axum_sqlx_tx::Tx<sqlx::Sqlite>;

#[derive(Clone)]
struct App {
    transactions: axum_sqlx_tx::State<sqlx::Sqlite>,
    gate: Gate,
}

impl FromRef<App> for axum_sqlx_tx::State<sqlx::Sqlite> {
    fn from_ref(app: &App) -> Self {
        app.transactions.clone()
    }
}

/// Inserts a payment from an account, whose existence the database checks at commit. Waits if the
/// body says so, and answers with the status in the body.
#[idempotent]
async fn pay(State(app): State<App>, mut tx: Tx, body: String) -> (StatusCode, &'static str) {
    sqlx::query("insert into payments (account) values ('ada')")
        .execute(&mut tx)
        .await
        .expect("it is checked when it is committed");
    match body.as_str() {
        "waits" => drop(app.gate.pass().await),
        "declined" => return (StatusCode::PAYMENT_REQUIRED, "declined"),
        _ => {}
    }
    (StatusCode::CREATED, "paid")
}

struct Bank {
    pool: SqlitePool,
    gate: Gate,
    idempotency: Idempotency,
    router: Router,
    _directory: TempDir,
}

impl Bank {
    async fn open(place: Place) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = SqliteConnectOptions::new()
            .filename(directory.path().join("bank.sqlite"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .foreign_keys(true);
        let pool = SqlitePool::connect_with(options).await.expect("a database");
        for table in [
            "create table accounts (name text primary key)",
            "create table payments (account text references accounts deferrable initially deferred)",
        ] {
            sqlx::query(AssertSqlSafe(table)).execute(&pool).await.expect("a table");
        }
        let (transactions, layer) = Tx::setup(pool.clone());
        let (gate, idempotency) = (Gate::default(), Idempotency::new(MemoryStore::new()));
        let router = put!(layer, place, Router::new().route("/pay", route(pay)))
            .layer(idempotency.clone())
            .with_state(App { transactions, gate: gate.clone() });
        Self { pool, gate, idempotency, router, _directory: directory }
    }

    /// Without it, no payment can be committed.
    async fn open_account(&self) {
        let insert = sqlx::query("insert into accounts values ('ada')");
        insert.execute(&self.pool).await.expect("an account");
    }

    async fn payments(&self) -> i64 {
        let count = sqlx::query_scalar("select count(*) from payments");
        count.fetch_one(&self.pool).await.expect("a count")
    }

    async fn send(&self, ask: Ask) -> (u16, bool) {
        let answer: Answer = ask.send(&self.router).await;
        (answer.status.as_u16(), answer.is_replay())
    }
}

const PLACES: [Place; 2] = [Inside, Outside];

#[tokio::test]
async fn a_payment_is_committed_once_in_either_place() {
    for place in PLACES {
        let bank = Bank::open(place).await;
        bank.open_account().await;
        let key = fresh_key();
        for is_replay in [false, true, true] {
            assert_eq!(bank.send(post("/pay").key(&key)).await, (201, is_replay), "{place:?}");
            assert_eq!(bank.payments().await, 1);
        }
        for count in 2..4 {
            assert_eq!(bank.send(post("/pay")).await, (201, false));
            assert_eq!(bank.payments().await, count);
        }
    }
}

#[tokio::test]
async fn a_commit_that_fails_is_stored_as_paid_outside_alone() {
    for place in PLACES {
        let bank = Bank::open(place).await;
        let key = fresh_key();
        assert_eq!(bank.send(post("/pay").key(&key)).await, (500, false), "the commit fails");
        bank.open_account().await;
        let retry = bank.send(post("/pay").key(&key)).await;
        let payments = bank.payments().await;
        match place {
            Inside => assert_eq!((retry, payments), ((201, false), 1)),
            // It says that there is a payment. There is none.
            Outside => assert_eq!((retry, payments), ((201, true), 0)),
        }
        let later = bank.send(post("/pay").key(&key)).await;
        assert_eq!((later, bank.payments().await), ((201, true), payments));
    }
}

#[tokio::test]
async fn a_commit_that_fails_without_a_key_is_not_stored_at_all() {
    for place in PLACES {
        let bank = Bank::open(place).await;
        assert_eq!(bank.send(post("/pay")).await, (500, false));
        bank.open_account().await;
        assert_eq!(bank.send(post("/pay")).await, (201, false));
        assert_eq!(bank.payments().await, 1);
    }
}

#[tokio::test]
async fn the_payment_of_a_caller_that_leaves_is_committed_inside_alone() {
    for place in PLACES {
        let bank = Bank::open(place).await;
        bank.open_account().await;
        let key = fresh_key();
        let ask = || post("/pay").key(&key).body("waits");
        leave(ask(), &bank.router, &bank.gate, &bank.idempotency).await;
        assert_eq!(bank.send(ask()).await, (201, true), "{place:?}");
        // Outside, the layer has ended with its caller, and its transaction with it.
        assert_eq!(bank.payments().await, i64::from(place == Inside));
    }
}

#[tokio::test]
async fn the_payment_of_a_caller_that_leaves_without_a_key_is_rolled_back() {
    for place in PLACES {
        let bank = Bank::open(place).await;
        bank.open_account().await;
        leave(post("/pay").body("waits"), &bank.router, &bank.gate, &bank.idempotency).await;
        assert_eq!(bank.payments().await, 0, "{place:?}");
        bank.gate.open(1);
        assert_eq!(bank.send(post("/pay").body("waits")).await, (201, false));
        assert_eq!(bank.payments().await, 1);
    }
}

#[tokio::test]
async fn a_payment_that_is_declined_is_rolled_back_and_may_be_tried_again() {
    for place in PLACES {
        let bank = Bank::open(place).await;
        bank.open_account().await;
        let key = fresh_key();
        for _ in 0..2 {
            let declined = bank.send(post("/pay").key(&key).body("declined")).await;
            assert_eq!(declined, (402, false), "{place:?}");
        }
        assert_eq!(bank.payments().await, 0);
        assert_eq!(bank.send(post("/pay").key(&key).body("")).await, (201, false));
        assert_eq!(bank.payments().await, 1);
    }
}
