//! Requests while a real store is out of reach: refused or run unprotected, as `OnStoreError` says,
//! and, on a Redis Cluster, only those whose node is dead.

#![cfg(all(feature = "redis", feature = "postgres"))]

use std::{
    collections::BTreeSet,
    net::TcpListener,
    time::{Duration, Instant},
};

use axum::{Router, extract::State, http::StatusCode, routing::post};
use idempotent_axum::{Idempotency, OnStoreError, PostgresStore, RedisStore, Store, idempotent};
use idempotent_test_support::{
    Answer, Counter, Gate, Probe, fresh_key, history::Recorder, post as request,
};
use test_servers::{Postgres, Redis, RedisCluster};
use tokio::task::{JoinSet, block_in_place};

const STORE_TIMEOUT: Duration = Duration::from_secs(1);
/// What a busy machine may add to a limit.
const SLACK: Duration = Duration::from_secs(9);

#[derive(Clone, Default)]
struct App {
    runs: Counter,
    gate: Gate,
}

#[idempotent(wait = "60s")]
async fn order(State(app): State<App>) -> (StatusCode, String) {
    (StatusCode::CREATED, format!("order {}", app.runs.add()))
}

#[idempotent(wait = "60s")]
async fn gated(State(app): State<App>) -> (StatusCode, String) {
    let run = app.runs.add();
    app.gate.pass().await;
    (StatusCode::CREATED, format!("order {run}"))
}

fn service(store: impl Store, on_store_error: OnStoreError) -> (Router, App) {
    let idempotency =
        Idempotency::new(store).store_timeout(STORE_TIMEOUT).on_store_error(on_store_error);
    let routes = Router::new().route("/orders", post(order)).route("/gated", post(gated));
    let app = App::default();
    (routes.layer(idempotency).with_state(app.clone()), app)
}

async fn send(router: &Router, path: &str, key: &str) -> Answer {
    request(path).key(key).send(router).await
}

fn is_unavailable(answer: &Answer) -> bool {
    let refused = answer.status == StatusCode::SERVICE_UNAVAILABLE;
    if refused {
        assert_eq!(answer.problem(), (503, "store_unavailable".to_owned()));
        assert!(answer.header("retry-after").is_some());
    }
    refused
}

/// Sends until the store is back.
async fn recovered(router: &Router, path: &str, key: &str) -> Answer {
    let since = Instant::now();
    loop {
        let answer = send(router, path, key).await;
        if !is_unavailable(&answer) {
            return answer;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "the service does not recover");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Kills and restarts the server of `store` under a service that executes without it.
async fn execute(store: impl Store + Clone, kill: impl FnOnce(), restart: impl FnOnce()) {
    let recorder = Recorder::default();
    let store = Probe::on(recorder.instance(store));
    let (router, app) = service(store.clone(), OnStoreError::Execute);
    let (stored, waited) = (fresh_key(), fresh_key());
    let first = send(&router, "/orders", &stored).await;
    let gated = || {
        let (router, key) = (router.clone(), waited.clone());
        tokio::spawn(async move { send(&router, "/gated", &key).await })
    };
    let running = gated();
    app.runs.reaches(2).await;
    let duplicate = gated();
    store.wait.begun.reaches(1).await;

    let disturbed = recorder.disturb();
    block_in_place(kill);
    let since = Instant::now();
    let unprotected = send(&router, "/orders", &fresh_key()).await;
    assert!(since.elapsed() < STORE_TIMEOUT + SLACK);
    assert_eq!((unprotected.status, unprotected.text()), (StatusCode::CREATED, "order 2"));
    assert!(!unprotected.is_replay());
    let duplicate = duplicate.await.unwrap();
    assert!(is_unavailable(&duplicate), "a duplicate that has seen a running claim never runs");

    block_in_place(restart);
    drop(disturbed);
    app.gate.open(1);
    let ran = running.await.unwrap();
    assert_eq!((ran.status, ran.is_replay()), (StatusCode::CREATED, false));
    // Runs unprotected until the service has the store again; then it is replayed.
    let since = Instant::now();
    while !send(&router, "/orders", &stored).await.is_replay() {
        assert!(since.elapsed() < Duration::from_secs(60), "the service does not recover");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let replay = send(&router, "/orders", &stored).await;
    assert_eq!(replay.text(), first.text());
    let replay = send(&router, "/gated", &waited).await;
    assert!(replay.is_replay());
    assert_eq!(replay.text(), ran.text());
    recorder.history().assert_linearizable();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn execute_runs_without_a_dead_redis_and_protects_again_when_it_is_back() {
    let redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = RedisStore::connect(redis.url()).await.unwrap();
    execute(store, || redis.kill(), || redis.restart()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn execute_runs_without_a_dead_postgres_and_protects_again_when_it_is_back() {
    let postgres = Postgres::start();
    let store = PostgresStore::connect(&postgres.url()).await.unwrap();
    store.migrate().await.unwrap();
    execute(store, || postgres.kill(), || postgres.restart()).await;
}

/// A node of a cluster that `down` takes away and `up` brings back: its own keys are refused
/// meanwhile, and no others.
async fn node_outage<T>(down: impl FnOnce(&Redis) -> T, up: impl FnOnce(&Redis, T)) {
    const KEYS: usize = 40;
    let cluster = RedisCluster::start();
    let store = RedisStore::connect_cluster(cluster.urls()).await.unwrap();
    let recorder = Recorder::default();
    let (router, app) = service(recorder.instance(store), OnStoreError::Reject);
    let keys: Vec<_> = (0..KEYS).map(|_| fresh_key()).collect();
    let mut first = Vec::new();
    for key in &keys {
        first.push(send(&router, "/orders", key).await);
    }
    assert_eq!(app.runs.get(), KEYS);

    // Without an AOF: its data is saved before it dies.
    let node = &cluster.nodes()[0];
    assert_eq!(node.cli(&["SAVE"]), "OK");
    let own: usize = node.cli(&["DBSIZE"]).parse().unwrap();
    assert!((1..KEYS).contains(&own), "{own} of {KEYS} on one node in three");
    let disturbed = recorder.disturb();
    let state = block_in_place(|| down(node));
    let mut refused_at_first = None;
    for _ in 0..4 {
        let mut requests = JoinSet::new();
        for (key, first) in keys.iter().zip(&first) {
            let (router, key, first) = (router.clone(), key.clone(), first.text().to_owned());
            requests.spawn(async move {
                let since = Instant::now();
                let answer = send(&router, "/orders", &key).await;
                assert!(since.elapsed() < STORE_TIMEOUT + SLACK);
                if is_unavailable(&answer) {
                    return Some(key);
                }
                assert!(answer.is_replay() && answer.text() == first);
                None
            });
        }
        let refused: BTreeSet<_> = requests.join_all().await.into_iter().flatten().collect();
        assert_eq!(refused.len(), own, "the keys of the node, and no others");
        assert_eq!(*refused_at_first.get_or_insert_with(|| refused.clone()), refused);
    }

    block_in_place(|| {
        up(node, state);
        cluster.await_ok();
    });
    drop(disturbed);
    for (key, first) in keys.iter().zip(&first) {
        let replay = recovered(&router, "/orders", key).await;
        assert!(replay.is_replay());
        assert_eq!(replay.text(), first.text());
    }
    assert_eq!(app.runs.get(), KEYS);
    recorder.history().assert_linearizable();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_of_a_cluster_refuses_its_own_keys_until_it_is_back() {
    node_outage(Redis::kill, |node, ()| node.restart()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_a_cluster_that_hangs_refuses_its_own_keys_until_it_goes_on() {
    node_outage(Redis::pause, |node, ()| node.resume()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_whose_address_takes_connections_refuses_its_own_keys_until_it_is_back() {
    let silence = |node: &Redis| {
        node.kill();
        TcpListener::bind(node.address()).unwrap()
    };
    let restart = |node: &Redis, silence| {
        drop(silence);
        node.restart();
    };
    node_outage(silence, restart).await;
}
