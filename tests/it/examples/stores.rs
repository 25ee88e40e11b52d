//! Stores: on real servers, in a file, and a custom one.

use http::StatusCode;
use idempotent_axum::MemoryStore;
use idempotent_test_support::{fresh_key, post as request};

#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../../examples/custom_store.rs"]
mod custom_store;
#[cfg(feature = "postgres")]
#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../../examples/postgres.rs"]
mod postgres;
#[cfg(feature = "redis")]
#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../../examples/redis.rs"]
mod redis;
#[cfg(feature = "sqlite")]
#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../../examples/sqlite.rs"]
mod sqlite;

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_retry_that_reaches_another_instance_is_replayed_from_redis() {
    let (server, key) = (test_servers::Redis::start(), fresh_key());
    for (port, replayed) in [(3000, false), (3001, true), (3000, true)] {
        let app = redis::app(port, redis::idempotency(&server.url()).await.unwrap());
        let answer = request("/payments").key(&key).body("order 7").send(&app).await;
        let expected = (StatusCode::CREATED, "order 7: paid on port 3000\n", replayed);
        assert_eq!((answer.status, answer.text(), answer.is_replay()), expected);
    }
    let keys = server.cli(&["KEYS", "*"]);
    assert!(keys.starts_with("shop"), "{keys}");
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_payment_and_its_response_are_in_postgres_together_or_not_at_all() {
    let server = test_servers::Postgres::start();
    let app = postgres::app(postgres::idempotency(&server.url()).await.unwrap());
    let pay = async |key: &str, cents: &'static str| {
        request("/payments").key(key).body(cents).send(&app).await
    };
    let key = fresh_key();
    for replayed in [false, true] {
        let answer = pay(&key, "700").await;
        let expected = (StatusCode::CREATED, "payment 1, 300 cents left\n", replayed);
        assert_eq!((answer.status, answer.text(), answer.is_replay()), expected);
    }
    // Rolled back each time: its key is free.
    let key = fresh_key();
    for _ in 0..2 {
        let answer = pay(&key, "400").await;
        assert_eq!((answer.status, answer.is_replay()), (StatusCode::PAYMENT_REQUIRED, false));
    }
    let rows = "SELECT (SELECT sum(cents) FROM payments), (SELECT cents FROM accounts), \
                (SELECT count(*) FROM idempotency_keys)";
    assert_eq!(server.execute(rows), "700|300|1");
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn what_is_in_the_file_is_replayed_after_a_restart() {
    use idempotent_axum::{Idempotency, SqliteStore};

    let (disk, key) = (test_servers::Disk::new(), fresh_key());
    for (process, replayed) in [(1, false), (2, true)] {
        let store = SqliteStore::connect(disk.path().join("idempotency.db")).await.unwrap();
        let app = sqlite::app(process, Idempotency::new(store.clone()));
        let answer = request("/payments").key(&key).body("order 7").send(&app).await;
        let expected = (StatusCode::CREATED, "order 7: paid by process 1\n", replayed);
        assert_eq!((answer.status, answer.text(), answer.is_replay()), expected);
        store.close().await;
    }
}

#[tokio::test]
async fn a_store_that_is_closed_replays_and_takes_nothing_new() {
    let app = custom_store::app(MemoryStore::new());
    let (key, other) = (fresh_key(), fresh_key());
    let pay = async |key: &str| request("/payments").key(key).body("order 7").send(&app).await;
    assert!(!pay(&key).await.is_replay());
    assert_eq!(request("/close").send(&app).await.status, StatusCode::OK);
    let replay = pay(&key).await;
    assert_eq!((replay.text(), replay.is_replay()), ("paid order 7\n", true));
    assert_eq!(pay(&other).await.problem(), (503, "store_unavailable".to_owned()));
}

#[cfg(feature = "testing")]
#[tokio::test(flavor = "multi_thread")]
async fn the_store_of_ones_own_keeps_every_promise_of_a_store() {
    let store = custom_store::Closable::<MemoryStore>::default();
    idempotent_axum::testing::conformance(store).await;
}
