//! `run_tx`: a job's rows, claim and value are committed together or not at all.

use std::{fmt::Debug, pin::pin, time::Duration};

use axum::Router;
use idempotent_axum::{
    Done, Forgotten, Idempotency, IdempotencyKey, MemoryStore, OperationKey, OperationState,
    RunError, Serializable, StoredKind, Tx, TxError,
};
use idempotent_test_support::{Counter, fresh_key, is_pending};
use sqlx::Row as _;
use tokio::task::JoinSet;

use super::{Bank, insert};

type Paid = Result<Done<String>, RunError<TxError>>;

async fn bank() -> Bank<'static> {
    Bank::open(Router::new()).await
}

impl Bank<'_> {
    fn job(&self, id: &str) -> OperationKey {
        self.idempotency.operation("pay").principal("tenant").key(id).wait(Duration::from_secs(60))
    }

    /// Pays once the gate is open.
    fn pay(&self, id: &str) -> impl Future<Output = Paid> + Send + 'static {
        let (app, reference) = (self.app.clone(), id.to_owned());
        self.job(id).run_tx(|mut tx: Tx, _| async move {
            app.runs.add();
            let paid = insert(&mut tx, &reference).await?;
            app.gate.pass().await;
            Ok(paid)
        })
    }

    async fn holds(&self, id: &str) -> OperationState {
        self.job(id).state().await.expect("the server is up")
    }
}

fn value<T: Debug, E: Debug>(done: Result<Done<T>, RunError<E>>) -> (T, bool) {
    let Done { value, replayed, .. } = done.expect("it is done");
    (value, replayed)
}

#[tokio::test]
async fn duplicates_at_once_have_one_row_and_one_value() {
    let bank = bank().await;
    let mut duplicates = JoinSet::new();
    for _ in 0..20 {
        duplicates.spawn(bank.pay("rent"));
    }
    bank.app.gate.arrived.reaches(1).await;
    assert_eq!((bank.payments(), bank.keys()), (vec![], 0), "nothing is there before the commit");
    bank.app.gate.open_for_good();
    let done: Vec<_> = duplicates.join_all().await.into_iter().map(value).collect();
    assert!(done.iter().all(|(value, _)| value == "payment 1 of rent"), "{done:?}");
    assert_eq!(done.iter().filter(|(_, replayed)| !replayed).count(), 1);
    assert_eq!((bank.payments(), bank.app.runs.get()), (vec!["rent".to_owned()], 1));
    let state = bank.holds("rent").await;
    assert!(matches!(state, OperationState::Stored { kind: StoredKind::Value, .. }), "{state:?}");
}

#[tokio::test]
async fn an_error_takes_its_rows_back_and_frees_the_key() {
    let bank = bank().await;
    let declined = bank.job("rent").run_tx(|mut tx: Tx, _| async move {
        insert(&mut tx, "rent").await.expect("the table is there");
        Err::<String, _>(std::io::Error::other("declined"))
    });
    let error = declined.await.expect_err("it failed");
    assert!(matches!(error, RunError::Failed(_)) && error.is_worth_retrying());
    assert_eq!((bank.payments(), bank.keys()), (vec![], 0));
    bank.app.gate.open_for_good();
    assert_eq!(value(bank.pay("rent").await), ("payment 2 of rent".to_owned(), false));
}

#[tokio::test]
async fn a_panic_takes_its_rows_back_and_reaches_the_caller() {
    let bank = bank().await;
    let panicking = bank.job("rent").run_tx(|mut tx: Tx, _| async move {
        insert(&mut tx, "rent").await.expect("the table is there");
        panic!("out of paper");
        #[expect(unreachable_code, reason = "it says the types")]
        Ok::<String, TxError>(String::new())
    });
    let panic = tokio::spawn(panicking).await.expect_err("it panics").into_panic();
    assert_eq!(panic.downcast_ref(), Some(&"out of paper"));
    assert_eq!((bank.payments(), bank.keys()), (vec![], 0));
}

#[tokio::test]
async fn a_caller_that_leaves_cancels_nothing() {
    let bank = bank().await;
    {
        let mut paying = pin!(bank.pay("rent"));
        tokio::select! {
            _ = paying.as_mut() => panic!("the gate is closed"),
            () = bank.app.gate.arrived.reaches(1) => {}
        }
        assert!(is_pending(paying.as_mut()).await);
    }
    bank.app.gate.open_for_good();
    bank.idempotency.drain().await;
    assert_eq!(value(bank.pay("rent").await), ("payment 1 of rent".to_owned(), true));
    assert_eq!(bank.payments(), ["rent"]);
}

#[tokio::test]
async fn a_key_that_a_transaction_holds_is_not_forgotten() {
    let bank = bank().await;
    let paying = tokio::spawn(bank.pay("rent"));
    bank.app.gate.arrived.reaches(1).await;
    assert!(matches!(bank.holds("rent").await, OperationState::Running { .. }));
    for forget in [bank.job("rent").forget(), bank.job("rent").forget().even_if_running()] {
        let forgotten = forget.await.expect("the server is up");
        assert!(matches!(forgotten, Forgotten::StillRunning { .. }), "{forgotten:?}");
    }
    bank.app.gate.open_for_good();
    let paid = value(paying.await.expect("it does not panic"));
    assert_eq!(paid, ("payment 1 of rent".to_owned(), false));
    assert!(value(bank.pay("rent").await).1);
    assert_eq!(bank.payments(), ["rent"]);
}

#[tokio::test]
async fn rows_beside_a_value_that_cannot_be_stored_are_committed_with_a_note() {
    let bank = Bank::open_with(Router::new(), |it| it, |it| it.max_response_bytes(8)).await;
    bank.app.gate.open_for_good();
    let done = value(bank.pay("rent").await);
    assert_eq!(done, ("payment 1 of rent".to_owned(), false), "its caller gets it");
    assert!(matches!(bank.pay("rent").await, Err(RunError::ValueNotStored)));
    assert_eq!((bank.payments(), bank.app.runs.get()), (vec!["rent".to_owned()], 1));
}

#[tokio::test]
async fn a_deferred_constraint_takes_all_back_and_says_that_a_retry_does_not_help() {
    let bank = bank().await;
    bank.query(
        "ALTER TABLE payments ADD CONSTRAINT single UNIQUE (reference) DEFERRABLE INITIALLY DEFERRED",
    );
    bank.app.gate.open_for_good();
    value(bank.pay("rent").await);
    let again =
        bank.job("other").run_tx(|mut tx: Tx, _| async move { insert(&mut tx, "rent").await });
    let error = again.await.expect_err("the constraint is violated");
    assert!(matches!(error, RunError::TransactionFailed), "{error}");
    assert!(!error.is_worth_retrying());
    assert_eq!((bank.payments(), bank.keys()), (vec!["rent".to_owned()], 1));
}

#[tokio::test]
async fn the_type_of_the_transaction_says_how_isolated_it_is() {
    async fn level(tx: &mut sqlx::PgConnection) -> Result<String, sqlx::Error> {
        sqlx::query("SHOW transaction_isolation").fetch_one(tx).await?.try_get(0)
    }
    let bank = bank().await;
    let plain = bank.job("1").run_tx(|mut tx: Tx, _| async move { level(&mut tx).await });
    assert_eq!(value(plain.await), ("read committed".to_owned(), false));
    let strict =
        bank.job("2").run_tx(|mut tx: Tx<Serializable>, _| async move { level(&mut tx).await });
    assert_eq!(value(strict.await), ("serializable".to_owned(), false));
}

#[tokio::test]
async fn its_key_derives_the_same_keys_as_that_of_a_plain_run() {
    fn derived(key: &IdempotencyKey) -> String {
        key.derive("card").to_string()
    }
    let bank = bank().await;
    let plain = bank.job("1").run(|key| async move { Ok::<_, TxError>(derived(&key)) });
    let plain = value(plain.await).0;
    let forgotten = bank.job("1").forget().await.expect("the server is up");
    let again = bank.job("1").run_tx(|_: Tx, key| async move { Ok::<_, TxError>(derived(&key)) });
    assert_eq!(value(again.await), (plain, false), "{forgotten:?}");
}

#[tokio::test]
async fn a_store_without_transactions_runs_nothing() {
    let key = Idempotency::new(MemoryStore::new()).operation("pay").key(fresh_key());
    let runs = Counter::default();
    let run = key.clone().run_tx({
        let runs = runs.clone();
        async move |_: Tx, _| Ok::<_, TxError>(runs.add())
    });
    let error = run.await.expect_err("memory has no transactions");
    assert!(matches!(error, RunError::NoTransactions) && !error.is_worth_retrying());
    assert_eq!(error.to_string(), "a transaction needs a `PostgresStore`");
    assert_eq!((runs.get(), key.state().await.unwrap()), (0, OperationState::Absent));
}

#[tokio::test]
async fn an_empty_key_runs_nothing() {
    let bank = bank().await;
    assert!(matches!(bank.pay("").await, Err(RunError::EmptyKey)));
    assert_eq!((bank.app.runs.get(), bank.keys()), (0, 0));
}
