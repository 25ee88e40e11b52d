//! A copy of what a real store holds: no round trip, a replay while the server is down, and none
//! that outlives its record, with real clocks on both sides.

use std::time::{Duration, Instant};

use axum::{Router, extract::State, http::StatusCode, routing::post as route};
use idempotent_axum::{
    Decision, Idempotency, IdempotencyKey, OperationKey, PostgresStore, RedisStore, Replayed,
    RunError, Store, Tx, TxError, idempotent,
};
use idempotent_test_support::{Counter, PATIENCE, fresh_key, post};
use test_servers::{Postgres, Proxy, Redis};
use tokio::task::{JoinSet, block_in_place};

use super::{App, Instance, MAX_BYTES, from_store, near};
use crate::exactly_once::bank::{self, Bank, insert};

/// Replays without the store: far more than the round trips that nobody waits for, such as a pool's
/// check of a connection that it gets back.
const HITS: usize = 100;

async fn job(key: &OperationKey) -> Result<(String, bool), RunError<()>> {
    let work = |key: IdempotencyKey| async move { Ok(key.derive("receipt").to_string()) };
    key.clone().run(work).await.map(|done| (done.value, done.replayed))
}

/// Takes the server of `store` away from a service, and brings it back.
async fn outage(
    store: impl Store + Clone,
    proxy: &Proxy,
    kill: impl FnOnce(),
    restart: impl FnOnce(),
) {
    let app = App::default();
    let instance = || {
        let settings = Idempotency::new(store.clone()).store_timeout(Duration::from_secs(1));
        Instance::with(settings.near_cache(MAX_BYTES), &app)
    };
    let (one, other) = (instance(), instance());
    let [own, replayed, others, new, id] = [(); 5].map(|()| fresh_key());
    assert_eq!(one.send("/pay", &own, "").await.text(), "run 1");
    assert_eq!(other.send("/pay", &replayed, "").await.text(), "run 2");
    assert_eq!(one.replay("/pay", &replayed, "").await, from_store("run 2"));
    assert_eq!(other.send("/pay", &others, "").await.text(), "run 3");
    let (receipt, _) = job(&one.key(&id)).await.unwrap();

    let (before, _) = (proxy.requests(), one.calls());
    for _ in 0..HITS {
        assert_eq!(one.replay("/pay", &own, "").await, near("run 1"));
        assert_eq!(one.replay("/pay", &replayed, "").await, near("run 2"));
        assert_eq!(job(&one.key(&id)).await.unwrap(), (receipt.clone(), true));
    }
    let trips = proxy.requests() - before;
    assert!(trips < HITS / 10, "{trips} round trips in {HITS} times three replays");
    assert_eq!(one.calls(), [], "the store was not asked");

    block_in_place(kill);
    for _ in 0..3 {
        assert_eq!(one.replay("/pay", &own, "").await, near("run 1"));
        assert_eq!(one.replay("/pay", &replayed, "").await, near("run 2"));
        assert_eq!(other.replay("/pay", &others, "").await, near("run 3"));
        assert_eq!(job(&one.key(&id)).await.unwrap(), (receipt.clone(), true));
        for (instance, key) in [(&one, &others), (&one, &new), (&other, &own)] {
            let refused = instance.send("/pay", key, "").await;
            assert_eq!(refused.problem(), (503, "store_unavailable".to_owned()));
        }
        let unknown = job(&other.key(&id)).await;
        assert!(matches!(unknown, Err(RunError::StoreUnavailable)), "{unknown:?}");
        let refused = one.send("/pay", &own, "for something else").await;
        assert_eq!(refused.problem(), (422, "key_reused".to_owned()));
    }

    block_in_place(restart);
    let since = Instant::now();
    loop {
        let answer = one.send("/pay", &others, "").await;
        if answer.status != StatusCode::SERVICE_UNAVAILABLE {
            assert_eq!((answer.is_replay(), answer.text()), (true, "run 3"));
            break;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "the service does not recover");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(one.replay("/pay", &others, "").await, near("run 3"));
    assert_eq!(app.runs.count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_down_what_is_known_is_replayed_and_all_else_refused() {
    let redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let proxy = Proxy::start(redis.address());
    let store = RedisStore::connect(redis.url_through(&proxy)).await.unwrap();
    outage(store, &proxy, || redis.kill(), || redis.restart()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_postgres_is_down_what_is_known_is_replayed_and_all_else_refused() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(postgres.address());
    let store = PostgresStore::connect(&postgres.url_through(&proxy)).await.unwrap();
    store.migrate().await.unwrap();
    outage(store, &proxy, || postgres.kill(), || postgres.restart()).await;
}

#[idempotent]
async fn pay_in_tx(
    State(app): State<bank::App>,
    mut tx: Tx,
    reference: String,
) -> Result<(StatusCode, String), TxError> {
    app.runs.add();
    let paid = insert(&mut tx, &reference).await?;
    let status = if reference == "fails" { StatusCode::BAD_REQUEST } else { StatusCode::CREATED };
    Ok((status, paid))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_transaction_has_committed_is_replayed_without_the_server() {
    let server = Postgres::start();
    let routes = Router::new().route("/pay", route(pay_in_tx));
    let settings = |it: Idempotency| it.near_cache(MAX_BYTES);
    let bank = Bank::open_at(&server, &server.url(), routes, |store| store, settings).await;
    let [paid, failed, new] = [(); 3].map(|()| fresh_key());
    let ask = |key: &str, reference: &'static str| post("/pay").key(key).body(reference);
    let first = ask(&paid, "rent").send(&bank.router).await;
    assert_eq!((first.status, first.text()), (StatusCode::CREATED, "payment 1 of rent"));
    let refused = ask(&failed, "fails").send(&bank.router).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    let job = bank.idempotency.operation("pay").key("message-1");
    let work = |mut tx: Tx, _| async move { insert(&mut tx, "food").await };
    assert!(!job.clone().run_tx(work).await.unwrap().replayed);
    let payments = bank.payments();

    block_in_place(|| server.kill());
    for _ in 0..3 {
        let replay = ask(&paid, "rent").send(&bank.router).await;
        assert_eq!((replay.is_replay(), replay.text()), (true, "payment 1 of rent"));
        let done = job.clone().run_tx(work).await.unwrap();
        assert_eq!((done.replayed, &*done.value), (true, "payment 3 of food"));
        let other = ask(&paid, "food").send(&bank.router).await;
        assert_eq!(other.problem(), (422, "key_reused".to_owned()));
    }
    // What was rolled back left nothing to copy.
    for (key, reference) in [(&failed, "fails"), (&new, "rent")] {
        let refused = ask(key, reference).send(&bank.router).await;
        assert_eq!(refused.problem(), (503, "store_unavailable".to_owned()));
    }
    block_in_place(|| server.restart());
    assert_eq!(bank.payments(), payments);
    assert_eq!((payments, bank.app.runs.get()), (vec!["rent".to_owned(), "food".to_owned()], 2));
}

/// With a ttl so short that the key is free again and again, on two instances with copies and one
/// without: nobody gets what an earlier run returned once a later one has begun.
async fn no_copy_outlives_its_record(store: impl Store + Clone) {
    const CALLERS: usize = 2;
    const RUNS: usize = 60;
    const TTL: Duration = Duration::from_millis(25);

    let app = App::default();
    let instances = [MAX_BYTES, MAX_BYTES, 0].map(|max_bytes| {
        Instance::with(Idempotency::new(store.clone()).near_cache(max_bytes), &app)
    });
    let id = fresh_key();
    let (runs, mut callers) = (Counter::default(), JoinSet::new());
    for instance in &instances {
        for _ in 0..CALLERS {
            let (key, runs) = (instance.key(&id).ttl(TTL).wait(PATIENCE), runs.clone());
            callers.spawn(async move {
                while runs.get() < RUNS {
                    let (counter, begun) = (runs.clone(), runs.get());
                    let work = move |_| async move { Ok::<_, ()>(counter.add() + 1) };
                    let run = key.clone().run(work).await.unwrap().value;
                    assert!(run >= begun, "the value of run {run} after run {begun} has begun");
                    tokio::task::yield_now().await;
                }
            });
        }
    }
    callers.join_all().await;
    for (instance, has_copies) in instances.iter().zip([true, true, false]) {
        let told = instance.told.lock().unwrap();
        let copies =
            told.iter().filter(|told| **told == Decision::Replayed(Replayed::Near)).count();
        assert_eq!(copies > RUNS, has_copies, "{copies} replays of copies");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_copy_outlives_its_record_in_redis() {
    let redis = Redis::start();
    no_copy_outlives_its_record(RedisStore::connect(redis.url()).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_copy_outlives_its_record_in_postgres() {
    let postgres = Postgres::start_with(&["fsync=off"]);
    let store = PostgresStore::connect(&postgres.url()).await.unwrap();
    store.migrate().await.unwrap();
    no_copy_outlives_its_record(store).await;
}
