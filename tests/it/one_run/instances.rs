//! Instances of a service that share a Redis: one run and one response for all, even if the server
//! hangs or fills up meanwhile.
#![cfg(feature = "redis")]

use std::time::Duration;

use axum::{Router, extract::State, routing::post};
use http::StatusCode;
use idempotent_axum::{Idempotency, RedisStore, idempotent};
use idempotent_test_support::{Answer, Gate, fresh_key, history::Recorder, post as request};
use test_servers::Redis;
use tokio::task::JoinSet;

/// The order service, whose handlers stop at the gate.
#[derive(Clone, Default)]
struct Service {
    gate: Gate,
    recorder: Recorder,
}

#[idempotent(wait = "60s")]
async fn order(State(service): State<Service>) -> (StatusCode, String) {
    (StatusCode::CREATED, format!("order {}", service.gate.pass().await + 1))
}

impl Service {
    /// Lets the first `passes` handlers pass.
    fn new(passes: usize) -> Self {
        let service = Self::default();
        service.gate.open(passes);
        service
    }

    fn runs(&self) -> usize {
        self.gate.arrived.get()
    }

    /// An instance with its own connection.
    async fn instance(&self, redis: &Redis) -> Router {
        let store = RedisStore::connect(redis.url()).await.unwrap();
        let store = self.recorder.instance(store);
        let idempotency = Idempotency::new(store).store_timeout(Duration::from_secs(5));
        self.instance_with(idempotency)
    }

    fn instance_with(&self, idempotency: Idempotency) -> Router {
        Router::new().route("/orders", post(order)).layer(idempotency).with_state(self.clone())
    }
}

async fn send(instance: &Router, key: &str) -> Answer {
    request("/orders").key(key).send(instance).await
}

#[tokio::test]
async fn instances_replay_each_others_responses() {
    let redis = Redis::start();
    let service = Service::new(1);
    let (first, second) = (service.instance(&redis).await, service.instance(&redis).await);
    let key = fresh_key();
    let original = send(&first, &key).await;
    assert!(!original.is_replay());
    for instance in [&second, &first] {
        let replay = send(instance, &key).await;
        assert!(replay.is_replay());
        assert_eq!((replay.status, replay.text()), (StatusCode::CREATED, "order 1"));
    }
    assert_eq!(service.runs(), 1);
    service.recorder.history().assert_linearizable();
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_on_all_instances_wait_for_one_run() {
    let redis = Redis::start();
    let service = Service::new(0);
    let key = fresh_key();
    let mut duplicates = JoinSet::new();
    for _ in 0..3 {
        let instance = service.instance(&redis).await;
        for _ in 0..10 {
            let (instance, key) = (instance.clone(), key.clone());
            duplicates.spawn(async move { send(&instance, &key).await });
        }
    }
    service.gate.arrived.reaches(1).await;
    service.gate.open(100);
    let answers = duplicates.join_all().await;
    assert_eq!(service.runs(), 1);
    assert_eq!(answers.iter().filter(|answer| !answer.is_replay()).count(), 1);
    assert!(answers.iter().all(|answer| answer.body == "order 1"));
    service.recorder.history().assert_linearizable();
}

#[tokio::test]
async fn a_response_that_finds_no_memory_is_sent_and_its_duplicates_refused() {
    let redis = Redis::start();
    let service = Service::new(0);
    let (first, second) = (service.instance(&redis).await, service.instance(&redis).await);
    let key = fresh_key();
    let running = request("/orders").key(&key).spawn(&first);
    service.gate.arrived.reaches(1).await;
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    service.gate.open(2);
    let answer = running.await.unwrap();
    assert_eq!((answer.status, answer.text()), (StatusCode::CREATED, "order 1"));

    for instance in [&first, &second] {
        let duplicate = send(instance, &key).await;
        assert_eq!(duplicate.problem(), (409, "response_not_stored".to_owned()));
        let other = send(instance, &fresh_key()).await;
        assert_eq!(other.status, StatusCode::SERVICE_UNAVAILABLE, "a new key needs memory");
    }
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(send(&second, &key).await.status, StatusCode::CONFLICT, "for the whole ttl");
    assert_eq!(service.runs(), 1);
    assert_eq!(send(&second, &fresh_key()).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_server_that_hangs_is_503_until_it_goes_on() {
    let redis = Redis::start();
    let service = Service::new(10);
    let key = fresh_key();
    assert_eq!(send(&service.instance(&redis).await, &key).await.status, StatusCode::CREATED);
    let store = RedisStore::connect(redis.url()).await.unwrap();
    let store = service.recorder.instance(store);
    let impatient = Idempotency::new(store).store_timeout(Duration::from_millis(50));
    let impatient = service.instance_with(impatient);
    let disturbed = service.recorder.disturb();
    redis.pause();
    for key in [&key, &fresh_key()] {
        let refused = send(&impatient, key).await;
        assert_eq!(refused.problem(), (503, "store_unavailable".to_owned()));
        assert!(refused.header("retry-after").is_some());
    }
    assert_eq!(service.runs(), 1);
    redis.resume();
    drop(disturbed);
    // With the connection that it had while the server hung.
    let replay = loop {
        let answer = send(&impatient, &key).await;
        if answer.status != StatusCode::SERVICE_UNAVAILABLE {
            break answer;
        }
    };
    assert!(replay.is_replay());
    assert_eq!(service.runs(), 1, "nothing runs twice that was stored");
    service.recorder.history().assert_linearizable();
}

#[tokio::test]
async fn a_restart_with_a_log_loses_nothing_that_was_stored() {
    let redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let service = Service::new(0);
    let instance = service.instance(&redis).await;
    let key = fresh_key();
    let running = request("/orders").key(&key).spawn(&instance);
    service.gate.arrived.reaches(1).await;
    let disturbed = service.recorder.disturb();
    redis.restart(); // also while the handler runs
    service.gate.open(1);
    assert_eq!(running.await.unwrap().status, StatusCode::CREATED);
    redis.restart();
    drop(disturbed);
    assert!(send(&instance, &key).await.is_replay());
    assert_eq!(service.runs(), 1);
    service.recorder.history().assert_linearizable();
}
