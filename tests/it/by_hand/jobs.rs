//! Work without a request: one run per key on every store, whatever happens to callers, values and
//! stores.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    time::{Duration, SystemTime},
};

use axum::{Router, extract::State, routing::post};
use http::StatusCode;
use idempotent_axum::{
    Done, Idempotency, IdempotencyKey, MemoryStore, OnStoreError, OperationKey, OperationState,
    RunError, Store, StoredKind, idempotent,
};
use idempotent_test_support::{
    Counter, Fault, Gate, Leased, Probe, chain, fresh_key, is_pending, post as request,
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Receipt {
    run: usize,
    key: String,
}

/// A consumer of messages, whose work stops at the gate.
#[derive(Clone)]
struct Consumer {
    idempotency: Idempotency,
    runs: Counter,
    gate: Gate,
}

impl Consumer {
    fn on(store: impl Store) -> Self {
        Self::with(Idempotency::new(store).store_timeout(Duration::from_secs(5)))
    }

    fn with(idempotency: Idempotency) -> Self {
        Self { idempotency, runs: Counter::default(), gate: Gate::default() }
    }

    fn key(&self, id: &str) -> OperationKey {
        self.idempotency.operation("charge-card").principal("tenant").key(id)
    }

    /// Charges the card once the gate is open.
    async fn charge(&self, id: &str, body: &str) -> Result<Done<Receipt>, RunError<Infallible>> {
        let this = self.clone();
        let work = move |key: IdempotencyKey| async move {
            this.gate.pass().await;
            Ok(Receipt { run: this.runs.add() + 1, key: key.derive("card").to_string() })
        };
        self.key(id).fingerprint(body).wait(Duration::from_secs(60)).run(work).await
    }
}

/// Concurrent duplicates share one run, and later ones get its value, on another instance too.
async fn runs_once<S: Store + Clone>(store: S) {
    let consumer = Consumer::on(store.clone());
    let id = fresh_key();
    let mut duplicates = JoinSet::new();
    for _ in 0..20 {
        let (consumer, id) = (consumer.clone(), id.clone());
        duplicates.spawn(async move { consumer.charge(&id, "EUR 10").await });
    }
    consumer.gate.arrived.reaches(1).await;
    consumer.gate.open_for_good();
    let done: Vec<_> = duplicates.join_all().await.into_iter().map(Result::unwrap).collect();
    assert_eq!(consumer.runs.get(), 1);
    assert_eq!(done.iter().filter(|done| !done.replayed).count(), 1);
    assert!(done.iter().all(|it| it.value == done[0].value && it.value.run == 1), "{done:?}");

    let other = Consumer::on(store);
    other.gate.open_for_good();
    let replay = other.charge(&id, "EUR 10").await.unwrap();
    assert_eq!((replay.replayed, &replay.value), (true, &done[0].value));
    assert!(matches!(other.charge(&id, "EUR 11").await, Err(RunError::KeyReused)));
    assert!(!other.charge(&fresh_key(), "EUR 10").await.unwrap().replayed);
    let state = consumer.key(&id).state().await.unwrap();
    assert!(matches!(state, OperationState::Stored { kind: StoredKind::Value, .. }), "{state:?}");
}

#[tokio::test]
async fn a_key_has_one_run_in_memory() {
    runs_once(MemoryStore::new()).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_key_has_one_run_in_redis() {
    let redis = test_servers::Redis::start();
    runs_once(idempotent_axum::RedisStore::connect(redis.url()).await.unwrap()).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_key_has_one_run_in_postgres() {
    let postgres = test_servers::Postgres::start();
    let store = idempotent_axum::PostgresStore::connect(postgres.url()).await.unwrap();
    store.migrate().await.unwrap();
    runs_once(store).await;
}

#[tokio::test]
async fn an_error_frees_the_key() {
    let consumer = Consumer::on(Leased::default());
    let failing =
        consumer.key("1").run(async |_| Err::<Receipt, _>(std::io::Error::other("declined")));
    let error = failing.await.expect_err("it failed");
    assert!(matches!(error, RunError::Failed(_)) && error.is_worth_retrying());
    assert_eq!(chain(&error), "the work failed: declined");
    assert_eq!(consumer.key("1").state().await.unwrap(), OperationState::Absent);
    let done = consumer.key("1").run(async |_| Ok::<_, Infallible>(7)).await.unwrap();
    assert_eq!((done.value, done.replayed), (7, false));
}

#[tokio::test]
async fn a_panic_frees_the_key_and_reaches_the_caller() {
    let consumer = Consumer::on(Leased::default());
    let key = consumer.key("1");
    let panicking = key.clone().run(|_| async {
        assert!(std::hint::black_box(false), "out of paper");
        Ok::<_, Infallible>(7)
    });
    let panic = tokio::spawn(panicking).await.expect_err("it panics").into_panic();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"out of paper"));
    assert_eq!(key.state().await.unwrap(), OperationState::Absent);
    // Also before it returns a future.
    let panicking = key
        .clone()
        .run(|_| -> std::future::Ready<Result<u8, Infallible>> { panic!("no paper at all") });
    tokio::spawn(panicking).await.expect_err("it panics");
    assert_eq!(key.state().await.unwrap(), OperationState::Absent);
}

#[tokio::test]
async fn work_whose_caller_goes_away_goes_on_and_its_value_is_stored() {
    let consumer = Consumer::on(Leased::default());
    let mut leaving = Box::pin(consumer.charge("1", "EUR 10"));
    tokio::select! {
        done = &mut leaving => panic!("nobody has opened the gate: {done:?}"),
        () = consumer.gate.arrived.reaches(1) => drop(leaving),
    }
    let left = consumer.idempotency.drain_for(Duration::ZERO).await;
    assert_eq!(left.runs, 1);
    consumer.gate.open(1);
    consumer.idempotency.drain().await;
    let replay = consumer.charge("1", "EUR 10").await.unwrap();
    assert_eq!((replay.replayed, replay.value.run), (true, 1));
}

#[tokio::test]
async fn a_value_that_cannot_be_stored_is_given_back_once_and_nothing_runs_again() {
    let consumer = Consumer::with(Idempotency::new(Leased::default()).max_response_bytes(1000));
    // JSON has no maps keyed by pairs.
    let pairs = || BTreeMap::from([((1, 2), "x")].map(|(pair, text)| (pair, text.to_owned())));
    let runs = Counter::default();
    let run = |id: &str| {
        let runs = runs.clone();
        consumer.key(id).run(move |_| async move {
            runs.add();
            Ok::<_, Infallible>(pairs())
        })
    };
    assert_eq!(run("1").await.unwrap().value, pairs());
    let error = run("1").await.expect_err("it was not stored");
    assert!(matches!(error, RunError::ValueNotStored) && !error.is_worth_retrying());
    assert_eq!(runs.get(), 1);

    let long =
        |length| consumer.key("2").run(async move |_| Ok::<_, Infallible>("x".repeat(length)));
    assert_eq!(long(2000).await.unwrap().value.len(), 2000);
    assert!(matches!(long(1).await, Err(RunError::ValueNotStored)));
}

#[tokio::test]
async fn a_value_of_an_older_type_is_an_error_that_says_so_and_runs_nothing() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Newer {
        run: usize,
        amount: u64,
    }
    let consumer = Consumer::on(Leased::default());
    consumer.gate.open_for_good();
    consumer.charge("1", "EUR 10").await.unwrap();
    let newer = consumer
        .key("1")
        .fingerprint("EUR 10")
        .run(async |_| -> Result<Newer, Infallible> { panic!("it was done before") });
    let error = newer.await.expect_err("it is another type");
    assert!(matches!(error, RunError::OtherValue(_)) && !error.is_worth_retrying());
    assert!(chain(&error).contains("missing field `amount`"), "{}", chain(&error));
    assert!(consumer.charge("1", "EUR 10").await.unwrap().replayed, "the old type still reads it");
}

#[tokio::test]
async fn a_job_and_a_handler_with_one_name_never_take_the_others_record() {
    #[idempotent(scope = "charge-card", principal = "tenant", fingerprint = "none", format = "any")]
    async fn charge(State(runs): State<Counter>) -> String {
        format!("run {}", runs.add() + 1)
    }
    for store in [None, Some(Leased::default())] {
        let consumer = match store {
            Some(store) => Consumer::on(store),
            None => Consumer::on(MemoryStore::new()),
        };
        let (runs, layer) = (consumer.runs.clone(), consumer.idempotency.clone());
        let app = Router::new().route("/", post(charge)).layer(layer).with_state(runs.clone());
        assert_eq!(request("/").key("by http").send(&app).await.text(), "run 1");
        let error = consumer.charge("by http", "").await.expect_err("it is a response");
        assert!(matches!(error, RunError::OtherValue(_)));
        assert!(chain(&error).contains("the response of an HTTP handler"), "{}", chain(&error));

        consumer.gate.open_for_good();
        assert_eq!(consumer.charge("by job", "").await.unwrap().value.run, 2);
        let refused = request("/").key("by job").send(&app).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(refused.json()["code"], "key_reused");
        assert_eq!(runs.get(), 2);
    }
}

#[tokio::test]
async fn a_job_whose_lease_lapsed_is_a_duplicate_of_the_next() {
    let store = Leased::default();
    let consumer = Consumer::on(store.clone());
    let late = {
        let consumer = consumer.clone();
        tokio::spawn(async move { consumer.charge("1", "EUR 10").await })
    };
    consumer.gate.arrived.reaches(1).await;
    store.lapse();
    let next = {
        let consumer = consumer.clone();
        tokio::spawn(async move { consumer.charge("1", "EUR 10").await })
    };
    consumer.gate.arrived.reaches(2).await;
    consumer.gate.open_for_good();
    let (late, next) = (late.await.unwrap().unwrap(), next.await.unwrap().unwrap());
    assert!(late.replayed != next.replayed, "{late:?} {next:?}");
    assert_eq!(late.value, next.value);
    assert_eq!(consumer.charge("1", "EUR 10").await.unwrap().value, next.value);
}

#[tokio::test]
async fn a_duplicate_that_has_waited_long_enough_is_told_to_come_again() {
    let consumer = Consumer::on(Leased::default());
    let mut running = Box::pin(consumer.charge("1", ""));
    assert!(is_pending(running.as_mut()).await);
    let impatient = consumer.key("1").fingerprint("").wait(Duration::ZERO);
    let error = impatient.run(async |_| Ok::<_, Infallible>(7)).await.expect_err("it is running");
    assert!(matches!(error, RunError::InProgress) && error.is_worth_retrying());
    let other =
        consumer.key("1").fingerprint("another").run(async |_| Ok::<_, Infallible>(7)).await;
    assert!(matches!(other, Err(RunError::KeyReused)));
    consumer.gate.open(1);
    assert_eq!(running.await.unwrap().value.run, 1);
}

#[tokio::test]
async fn a_store_that_is_away_runs_nothing_unless_it_is_told_to() {
    let store = Probe::<Leased>::default().always(Fault::Fails);
    let consumer = Consumer::on(store.clone());
    consumer.gate.open_for_good();
    let error = consumer.charge("1", "").await.expect_err("nobody knows what the key holds");
    assert!(matches!(error, RunError::StoreUnavailable) && error.is_worth_retrying());
    assert_eq!(consumer.runs.get(), 0);

    let idempotency = consumer.idempotency.clone().on_store_error(OnStoreError::Execute);
    let reckless = Consumer { idempotency, ..consumer };
    for run in 1..3 {
        let done = reckless.charge("1", "").await.unwrap();
        assert_eq!((done.replayed, done.value.run), (false, run));
    }
}

#[tokio::test]
async fn a_value_that_could_not_be_stored_at_once_is_stored_later() {
    let store = Probe::<Leased>::default();
    let consumer = Consumer::on(store.clone());
    consumer.gate.open_for_good();
    store.complete.next([Fault::Fails]);
    assert!(!consumer.charge("1", "").await.unwrap().replayed);
    consumer.idempotency.drain().await;
    assert!(consumer.charge("1", "").await.unwrap().replayed);
    assert_eq!(consumer.runs.get(), 1);
}

#[tokio::test]
async fn an_empty_key_runs_nothing() {
    let consumer = Consumer::on(Leased::default());
    for key in [consumer.key(""), consumer.idempotency.operation("charge-card").key_exact("")] {
        let error = key.run(async |_| -> Result<(), Infallible> { panic!("it has no key") }).await;
        assert!(matches!(error, Err(RunError::EmptyKey)), "{error:?}");
    }
}

#[tokio::test]
async fn a_value_lives_for_its_ttl() {
    let consumer = Consumer::on(MemoryStore::new());
    let run =
        || consumer.key("1").ttl(Duration::from_secs(90)).run(async |_| Ok::<_, Infallible>(7));
    let expires_at = async || match consumer.key("1").state().await.unwrap() {
        OperationState::Stored { expires_at, .. } => expires_at,
        state => panic!("it is stored, not {state:?}"),
    };
    let before = SystemTime::now();
    assert!(!run().await.unwrap().replayed);
    assert!(run().await.unwrap().replayed);
    let (at, ttl) = (expires_at().await, Duration::from_secs(90));
    // The remaining time is in milliseconds.
    assert!((before + ttl - Duration::from_millis(1)..=SystemTime::now() + ttl).contains(&at));
}

#[tokio::test]
async fn a_derived_key_is_that_of_a_handler_with_the_name() {
    #[idempotent(scope = "charge-card", principal = "tenant")]
    async fn charge(key: IdempotencyKey) -> String {
        key.derive("card").to_string()
    }
    let app = Router::new().route("/", post(charge)).layer(Idempotency::new(MemoryStore::new()));
    let consumer = Consumer::on(Leased::default());
    consumer.gate.open_for_good();
    let id = fresh_key();
    let by_job = consumer.charge(&id, "").await.unwrap().value.key;
    assert_eq!(request("/").key(&id).send(&app).await.text(), by_job);
}
