//! Instances of a service that share a Redis: one run and one response for all, also where the
//! server hangs or fills up meanwhile.
#![cfg(feature = "redis")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::State, routing::post};
use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use idempotent_axum::{Idempotency, RedisStore, idempotent};
use test_servers::Redis;
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

/// The order service, whose handlers wait for a permit to go on.
#[derive(Clone)]
struct Service {
    runs: Arc<AtomicUsize>,
    go_on: Arc<Semaphore>,
}

#[idempotent(wait = "60s")]
async fn order(State(service): State<Service>) -> (StatusCode, String) {
    let run = service.runs.fetch_add(1, Ordering::Relaxed) + 1;
    service.go_on.acquire().await.unwrap().forget();
    (StatusCode::CREATED, format!("order {run}"))
}

impl Service {
    fn new(permits: usize) -> Self {
        Self { runs: Arc::default(), go_on: Arc::new(Semaphore::new(permits)) }
    }

    fn runs(&self) -> usize {
        self.runs.load(Ordering::Relaxed)
    }

    /// An instance with a connection of its own.
    async fn instance(&self, redis: &Redis) -> Router {
        let store = RedisStore::connect(redis.url()).await.unwrap();
        let idempotency = Idempotency::new(store).store_timeout(Duration::from_secs(5));
        self.instance_with(idempotency)
    }

    fn instance_with(&self, idempotency: Idempotency) -> Router {
        Router::new().route("/orders", post(order)).layer(idempotency).with_state(self.clone())
    }
}

struct Answer {
    status: StatusCode,
    body: String,
    is_replay: bool,
    has_retry_after: bool,
}

async fn send(instance: &Router, key: uuid::Uuid) -> Answer {
    let request = Request::post("/orders").header("idempotency-key", key.to_string());
    let request = request.body(Body::empty()).unwrap();
    let response = instance.clone().oneshot(request).await.unwrap();
    let headers = response.headers();
    let is_replay = headers.contains_key("idempotent-replayed");
    let has_retry_after = headers.contains_key(header::RETRY_AFTER);
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    Answer { status, body, is_replay, has_retry_after }
}

#[tokio::test]
async fn instances_replay_each_others_responses() {
    let redis = Redis::start();
    let service = Service::new(1);
    let (first, second) = (service.instance(&redis).await, service.instance(&redis).await);
    let key = uuid::Uuid::new_v4();
    let original = send(&first, key).await;
    assert!(!original.is_replay);
    for instance in [&second, &first] {
        let replay = send(instance, key).await;
        assert!(replay.is_replay);
        assert_eq!((replay.status, replay.body), (StatusCode::CREATED, "order 1".to_owned()));
    }
    assert_eq!(service.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_on_all_instances_wait_for_one_run() {
    let redis = Redis::start();
    let service = Service::new(0);
    let key = uuid::Uuid::new_v4();
    let mut duplicates = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let instance = service.instance(&redis).await;
        for _ in 0..10 {
            let instance = instance.clone();
            duplicates.spawn(async move { send(&instance, key).await });
        }
    }
    while service.runs() == 0 {
        tokio::task::yield_now().await;
    }
    service.go_on.add_permits(100);
    let answers = duplicates.join_all().await;
    assert_eq!(service.runs(), 1);
    assert_eq!(answers.iter().filter(|answer| !answer.is_replay).count(), 1);
    assert!(answers.iter().all(|answer| answer.body == "order 1"));
}

#[tokio::test]
async fn a_response_that_finds_no_memory_is_sent_and_its_duplicates_refused() {
    let redis = Redis::start();
    let service = Service::new(0);
    let (first, second) = (service.instance(&redis).await, service.instance(&redis).await);
    let key = uuid::Uuid::new_v4();
    let running = tokio::spawn({
        let first = first.clone();
        async move { send(&first, key).await }
    });
    while service.runs() == 0 {
        tokio::task::yield_now().await;
    }
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    service.go_on.add_permits(2);
    let answer = running.await.unwrap();
    assert_eq!((answer.status, answer.body), (StatusCode::CREATED, "order 1".to_owned()));

    for instance in [&first, &second] {
        let duplicate = send(instance, key).await;
        assert_eq!(duplicate.status, StatusCode::CONFLICT);
        assert!(duplicate.body.contains("response_not_stored"), "{}", duplicate.body);
        let other = send(instance, uuid::Uuid::new_v4()).await;
        assert_eq!(other.status, StatusCode::SERVICE_UNAVAILABLE, "a new key needs memory");
    }
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(send(&second, key).await.status, StatusCode::CONFLICT, "for the whole ttl");
    assert_eq!(service.runs(), 1);
    assert_eq!(send(&second, uuid::Uuid::new_v4()).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_server_that_hangs_is_503_until_it_goes_on() {
    let redis = Redis::start();
    let service = Service::new(10);
    let key = uuid::Uuid::new_v4();
    assert_eq!(send(&service.instance(&redis).await, key).await.status, StatusCode::CREATED);
    let store = RedisStore::connect(redis.url()).await.unwrap();
    let impatient = Idempotency::new(store).store_timeout(Duration::from_millis(50));
    let impatient = service.instance_with(impatient);
    redis.pause();
    for key in [key, uuid::Uuid::new_v4()] {
        let refused = send(&impatient, key).await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.has_retry_after);
        assert!(refused.body.contains("store_unavailable"), "{}", refused.body);
    }
    assert_eq!(service.runs(), 1);
    redis.resume();
    // With the connection that it had while the server hung.
    let replay = loop {
        let answer = send(&impatient, key).await;
        if answer.status != StatusCode::SERVICE_UNAVAILABLE {
            break answer;
        }
    };
    assert!(replay.is_replay);
    assert_eq!(service.runs(), 1, "nothing runs twice that was stored");
}

#[tokio::test]
async fn a_restart_with_a_log_loses_nothing_that_was_stored() {
    let redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let service = Service::new(0);
    let instance = service.instance(&redis).await;
    let key = uuid::Uuid::new_v4();
    let running = tokio::spawn({
        let instance = instance.clone();
        async move { send(&instance, key).await }
    });
    while service.runs() == 0 {
        tokio::task::yield_now().await;
    }
    redis.restart(); // also while the handler runs
    service.go_on.add_permits(1);
    assert_eq!(running.await.unwrap().status, StatusCode::CREATED);
    redis.restart();
    assert!(send(&instance, key).await.is_replay);
    assert_eq!(service.runs(), 1);
}
