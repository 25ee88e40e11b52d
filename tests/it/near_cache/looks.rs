//! A copy is looked at before extraction if the parameter is a function of bytes that were extracted
//! before, as for a response in a `MemoryStore`; otherwise the parameter is extracted first.

use std::cell::Cell;

use axum::{
    Json, Router,
    http::StatusCode,
    routing::{MethodRouter, post as route},
};
use idempotent_axum::{Idempotency, Store, idempotent};
use idempotent_test_support::{Answer, Ask, Events, Fault, Leased, Probe, fresh_key, post};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::MAX_BYTES;

thread_local! {
    /// How often this test has read a [`Counted`]: each test has its own thread.
    static READ: Cell<usize> = const { Cell::new(0) };
}

/// Any value; counts how often it is read.
struct Counted;

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer)?;
        READ.set(READ.get() + 1);
        Ok(Self)
    }
}

/// Another type that reads the same value.
struct OtherCounted;

impl<'de> Deserialize<'de> for OtherCounted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Counted::deserialize(deserializer)?;
        Ok(Self)
    }
}

#[idempotent(scope = "operation")]
async fn counted(Json(Counted): Json<Counted>) -> &'static str {
    "done"
}

#[idempotent(scope = "operation")]
async fn other(Json(OtherCounted): Json<OtherCounted>) -> &'static str {
    "done"
}

#[idempotent(scope = "operation")]
async fn strict(Json(_): Json<[bool; 3]>) -> &'static str {
    "done"
}

#[idempotent(fingerprint = "json")]
async fn by_value(Json(Counted): Json<Counted>) -> &'static str {
    "done"
}

#[idempotent(principal = format!("{:?}", body.0.len()))]
async fn by_expression(body: Json<Vec<Counted>>) -> &'static str {
    "done"
}

fn app(store: impl Store, handler: MethodRouter) -> Router {
    Router::new().route("/", handler).layer(Idempotency::new(store).near_cache(MAX_BYTES))
}

fn ask(key: &str) -> Ask {
    post("/").key(key).json("[1]")
}

/// The answer, and how often the body was read for it.
async fn reads(ask: Ask, app: &Router) -> (Answer, usize) {
    let before = READ.get();
    let answer = ask.send(app).await;
    (answer, READ.get() - before)
}

/// A replay that asks no store, and how often the body was read for it.
async fn near(ask: Ask, app: &Router) -> usize {
    let (events, _guard) = Events::of_thread();
    let (answer, reads) = reads(ask, app).await;
    assert!(answer.is_replay(), "{answer:?}");
    let is_near = |event: &idempotent_test_support::Logged| {
        event.message == "response replayed" && format!("{event:?}").contains("near")
    };
    assert!(events.all().iter().any(is_near), "{:?}", events.all());
    reads
}

#[tokio::test]
async fn a_replay_of_a_copy_does_not_extract_json_again() {
    let store = Leased::default();
    let [stores, replays] = [0, 1].map(|_| app(store.clone(), route(counted)));
    let key = fresh_key();
    assert_eq!(reads(ask(&key), &stores).await.1, 1);
    assert_eq!(near(ask(&key), &stores).await, 0);
    // The first replay of another instance asks the store, once it is extracted.
    let (replay, read) = reads(ask(&key), &replays).await;
    assert_eq!((replay.is_replay(), read), (true, 1));
    assert_eq!(near(ask(&key), &replays).await, 0);
}

#[tokio::test]
async fn what_was_extracted_as_another_type_is_extracted_as_this_one() {
    let settings = Idempotency::new(Leased::default()).near_cache(MAX_BYTES);
    let app = |handler| Router::new().route("/", handler).layer(settings.clone());
    let key = fresh_key();
    assert_eq!(reads(ask(&key), &app(route(counted))).await.1, 1);
    assert_eq!(near(ask(&key), &app(route(other))).await, 1);
    let refused = ask(&key).send(&app(route(strict))).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_content_type_that_says_more_or_another_fingerprint_has_it_extracted() {
    let typed =
        |key: &str| post("/").key(key).header("content-type", "application/json; a=b").body("[1]");
    let plain = app(Leased::default(), route(counted));
    let key = fresh_key();
    assert_eq!(reads(typed(&key), &plain).await.1, 1);
    for _ in 0..2 {
        assert_eq!(near(typed(&key), &plain).await, 1);
        assert_eq!(near(ask(&key), &plain).await, 1);
    }
    for handler in [route(by_value), route(by_expression)] {
        let (app, key) = (app(Leased::default(), handler), fresh_key());
        assert_eq!(reads(ask(&key), &app).await.1, 1);
        assert_eq!(near(ask(&key), &app).await, 1);
    }
}

#[tokio::test]
async fn another_body_is_extracted_and_refused_without_the_store() {
    let store = Probe::on(Leased::default());
    let app = app(store.clone(), route(counted));
    let key = fresh_key();
    assert_eq!(reads(ask(&key), &app).await.1, 1);
    let _store = store.always(Fault::Fails);
    let (refused, read) = reads(post("/").key(&key).json("[2]"), &app).await;
    assert_eq!((refused.problem(), read), ((422, "key_reused".to_owned()), 1));
}
