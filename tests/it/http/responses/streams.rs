//! Bodies that may never end: those recognized by their content type pass through at once, and any
//! other is held back for at most `max_capture_time`.
//!
//! Where time passes, the clock is virtual.

use std::{io, time::Duration};

use axum::{
    body::Body,
    http::header,
    response::{IntoResponse as _, Response},
};
use http_body_util::BodyExt as _;
use idempotent_axum::{Idempotency, MemoryStore, Outcome};
use idempotent_test_support::{FrameSender, frames, fresh_key, post};
use tokio::time::{Instant, sleep};

use super::{
    app,
    capture::{assert_passes_through, read},
    configured,
};

const STREAMS: [&str; 18] = [
    "text/event-stream",
    "text/event-stream; charset=utf-8",
    "Text/Event-Stream",
    "application/x-ndjson",
    "Application/X-NDJSON ; charset=utf-8",
    "application/ndjson",
    "application/jsonl",
    "application/jsonlines",
    "application/x-jsonlines",
    "application/x-json-stream",
    "application/stream+json",
    "application/json-seq",
    "application/grpc",
    "application/grpc+proto",
    "application/grpc-web",
    "application/grpc-web-text+proto",
    "multipart/x-mixed-replace; boundary=frame",
    "multipart/x-mixed-replace",
];

const LIMIT: Duration = Duration::from_secs(3);
const WITHIN: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_stream_by_its_content_type_passes_through_at_once_and_frees_its_key() {
    for value in STREAMS {
        let respond = |body| ([(header::CONTENT_TYPE, value)], body).into_response();
        assert_passes_through("/", respond).await;
        // Even if every status is stored.
        assert_passes_through("/everything", respond).await;
    }
}

#[tokio::test]
async fn what_only_looks_like_a_stream_is_captured() {
    for value in [
        "application/json",
        "text/event-streams",
        "application/x-ndjsonx",
        "multipart/mixed",
        "text/plain; a=text/event-stream",
    ] {
        let (app, _) = app([([(header::CONTENT_TYPE, value)], "whole").into_response()]);
        let key = fresh_key();
        assert!(!post("/").key(&key).send(&app).await.is_replay());
        assert!(post("/").key(&key).send(&app).await.is_replay(), "{value}");
    }
}

#[tokio::test]
async fn outcome_final_captures_a_stream_that_ends() {
    for value in STREAMS {
        let (sender, body) = frames();
        let respond = (Outcome::Final, [(header::CONTENT_TYPE, value)], body).into_response();
        let (app, _) = app([respond]);
        let key = fresh_key();
        let first = post("/").key(&key).spawn(&app);
        sender.data("one");
        sender.data("two");
        drop(sender);
        assert_eq!(first.await.unwrap().text(), "onetwo");
        let replay = post("/").key(&key).send(&app).await;
        assert_eq!((replay.text(), replay.is_replay()), ("onetwo", true), "{value}");
        assert_eq!(replay.header("content-type"), Some(value));
    }
}

/// A service that returns this response, and its settings.
fn limited(response: Response) -> (axum::Router, Idempotency) {
    let idempotency = Idempotency::new(MemoryStore::new()).max_capture_time(LIMIT);
    (configured(idempotency.clone(), [response]).0, idempotency)
}

/// Asserts that an endless body is passed on as it comes once its time is up.
async fn assert_sent_on_in_time(respond: impl Fn(Body) -> Response) {
    let (sender, body) = frames();
    sender.data("a");
    let (app, idempotency) = limited(respond(body));
    let key = fresh_key();
    let begun = Instant::now();
    let mut first = post("/").key(&key).begin(&app).await.into_body();
    let held = begun.elapsed();
    assert!(LIMIT <= held && held < LIMIT + Duration::from_secs(1), "{held:?}");
    assert_eq!(read(&mut first, 1).await, b"a");
    let duplicate = post("/").key(&key).send(&app).await;
    assert_eq!(duplicate.problem(), (409, "response_not_stored".to_owned()));
    // It never ends, and a shutdown does not wait for it.
    idempotency.drain().await;
    assert_eq!(begun.elapsed(), held);
    sender.data("bc");
    assert_eq!(read(&mut first, 2).await, b"bc");
    drop(sender);
    assert!(first.frame().await.is_none());
    let duplicate = post("/").key(&key).send(&app).await;
    assert_eq!(duplicate.problem(), (409, "response_not_stored".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_end_in_max_capture_time_is_sent_on_and_duplicates_get_409() {
    assert_sent_on_in_time(Response::new).await;
}

#[tokio::test(start_paused = true)]
async fn outcome_final_does_not_hold_a_stream_longer() {
    assert_sent_on_in_time(|body| {
        (Outcome::Final, [(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
    })
    .await;
}

/// A body that comes slowly and ends with `then`, and how the caller's answer begins.
async fn slowly(
    then: impl FnOnce(FrameSender) + Send + 'static,
) -> (axum::Router, String, Response) {
    let (sender, body) = frames();
    sender.data("a");
    let (app, _) = limited(Response::new(body));
    tokio::spawn(async move {
        sleep(WITHIN).await;
        then(sender);
    });
    let key = fresh_key();
    let response = post("/").key(&key).begin(&app).await;
    (app, key, response)
}

#[tokio::test(start_paused = true)]
async fn a_body_that_ends_in_max_capture_time_is_stored() {
    let (app, key, first) = slowly(|sender| sender.data("b")).await;
    assert_eq!(first.into_body().collect().await.unwrap().to_bytes(), "ab");
    let replay = post("/").key(&key).send(&app).await;
    assert_eq!((replay.text(), replay.is_replay()), ("ab", true));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_fails_later_is_not_stored_either() {
    let (app, key, first) =
        slowly(|sender| sender.send(Err(io::Error::other("lost the upstream")))).await;
    let mut first = first.into_body();
    assert_eq!(read(&mut first, 1).await, b"a");
    let error = first.frame().await.expect("the error comes").expect_err("an error");
    assert_eq!(error.to_string(), "lost the upstream");
    // The key is free: the handler runs again, and the script has no second response.
    let retry = post("/").key(&key).spawn(&app).await;
    assert!(retry.unwrap_err().is_panic());
}

#[tokio::test(start_paused = true)]
async fn max_capture_time_is_5_seconds_by_default() {
    let (sender, body) = frames();
    let (app, _) = app([Response::new(body)]);
    let begun = Instant::now();
    let first = post("/").key(fresh_key()).begin(&app).await;
    let held = begun.elapsed();
    assert!(Duration::from_secs(5) <= held && held < Duration::from_secs(6), "{held:?}");
    drop((first, sender));
}

#[tokio::test(start_paused = true)]
async fn max_capture_time_of_zero_stores_what_is_there_at_once() {
    let settings = || Idempotency::new(MemoryStore::new()).max_capture_time(Duration::ZERO);
    let (sender, whole) = frames();
    sender.data("whole");
    drop(sender);
    for response in ["whole".into_response(), Response::new(whole)] {
        let (app, _) = configured(settings(), [response]);
        let key = fresh_key();
        assert_eq!(post("/").key(&key).send(&app).await.text(), "whole");
        assert!(post("/").key(&key).send(&app).await.is_replay());
    }
    let (sender, open) = frames();
    let (app, _) = configured(settings(), [Response::new(open)]);
    let key = fresh_key();
    let first = post("/").key(&key).begin(&app).await;
    let duplicate = post("/").key(&key).send(&app).await;
    assert_eq!(duplicate.problem(), (409, "response_not_stored".to_owned()));
    drop((first, sender));
}

#[tokio::test(start_paused = true)]
async fn max_capture_time_without_end_waits_for_the_body() {
    let (sender, body) = frames();
    let settings = Idempotency::new(MemoryStore::new()).max_capture_time(Duration::MAX);
    let (app, _) = configured(settings, [Response::new(body)]);
    let key = fresh_key();
    let first = post("/").key(&key).spawn(&app);
    sleep(Duration::from_secs(30)).await;
    assert!(!first.is_finished());
    sender.data("late");
    drop(sender);
    assert_eq!(first.await.unwrap().text(), "late");
    assert!(post("/").key(&key).send(&app).await.is_replay());
}
