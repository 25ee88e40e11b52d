//! Reading the key: which header values are a key and which of them are the same key (`values`),
//! and which header lines are read, when, and what a client is told about all others (`headers`).

mod headers;
mod values;

use axum::{Router, body::Bytes, extract::State, routing::post as route};
use idempotent_axum::{Idempotency, MemoryStore, idempotent};
use idempotent_test_support::{Runs, post};

const UUID: &str = "2c5ea4c0-4067-41fe-8bad-9b1deb4d3b7d";
const UUID_DETAIL: &str =
    "Invalid idempotency key format. The idempotency-key must be a valid UUID";

#[idempotent]
async fn uuid(State(runs): State<Runs>, _body: Bytes) -> String {
    runs.next()
}

#[idempotent(format = "uuid-v4")]
async fn uuid_v4(State(runs): State<Runs>, _body: Bytes) -> String {
    runs.next()
}

#[idempotent(format = "any", principal = "everyone")]
async fn any(State(runs): State<Runs>, _body: Bytes) -> String {
    runs.next()
}

#[idempotent(format = "any", principal = "everyone", header = ["x-first", "x-second", "x-third"])]
async fn three_names(State(runs): State<Runs>, _body: Bytes) -> String {
    runs.next()
}

/// Every format on its own route, with its own store.
fn app() -> (Router, Runs) {
    let runs = Runs::default();
    let app = Router::new()
        .route("/uuid", route(uuid))
        .route("/uuid-v4", route(uuid_v4))
        .route("/any", route(any))
        .route("/three", route(three_names))
        .layer(Idempotency::new(MemoryStore::new()))
        .with_state(runs.clone());
    (app, runs)
}

/// Asserts that each of `values` is a valid key on `path`, and that all of them are the same one.
async fn assert_same_key<V: AsRef<[u8]>>(path: &str, values: &[V]) {
    let (app, runs) = app();
    for (index, value) in values.iter().enumerate() {
        let answer = post(path).key(value).send(&app).await;
        let shown = String::from_utf8_lossy(value.as_ref());
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "run 1"), "{shown:?}");
        assert_eq!(answer.is_replay(), index > 0, "{shown:?}");
    }
    assert_eq!(runs.count(), 1);
}

/// Asserts that each of `values` is a valid key on `path`, and that none is the same as another.
async fn assert_different_keys<V: AsRef<[u8]>>(path: &str, values: &[V]) {
    let (app, runs) = app();
    for value in values {
        let answer = post(path).key(value).send(&app).await;
        let shown = String::from_utf8_lossy(value.as_ref());
        assert_eq!((answer.status.as_u16(), answer.is_replay()), (200, false), "{shown:?}");
    }
    assert_eq!(runs.count(), values.len());
}

/// Asserts that each of `values` is refused on `path` as invalid, and that nothing runs.
async fn assert_invalid<V: AsRef<[u8]>>(path: &str, values: &[V]) {
    let (app, runs) = app();
    for value in values {
        let answer = post(path).key(value).send(&app).await;
        let shown = String::from_utf8_lossy(value.as_ref());
        assert_eq!(answer.problem(), (400, "invalid_key".to_owned()), "{shown:?}");
    }
    assert_eq!(runs.count(), 0);
}

#[idempotent(required)]
async fn required(_body: Bytes) {}
