//! The look before extraction: a response that this process holds in memory is replayed without
//! extracting the last parameter again, if that parameter is a function of bytes that were
//! extracted before. Otherwise it is extracted before the replay.
//!
//! A counting `Deserialize` shows whether `Json` is extracted; for `String` and `Bytes` only the
//! log does.

use std::{cell::Cell, convert::Infallible, sync::Arc};

use axum::{
    Form, Json, Router,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{HeaderValue, StatusCode, request::Parts},
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, post as route},
};
use idempotent_axum::{Idempotency, MemoryStore, Store, idempotent};
use idempotent_test_support::{Answer, Ask, Events, Gate, Leased, fresh_key, post};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

thread_local! {
    /// How often this test has read a [`Counted`]: each test has its own thread.
    static READ: Cell<usize> = const { Cell::new(0) };
    /// How often a handler ran.
    static RUNS: Cell<usize> = const { Cell::new(0) };
}

fn count(counter: &'static std::thread::LocalKey<Cell<usize>>) -> usize {
    counter.set(counter.get() + 1);
    counter.get()
}

/// Any value; counts how often it is read.
struct Counted;

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer)?;
        count(&READ);
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

fn run() -> String {
    format!("run {}", count(&RUNS))
}

/// A caller whose token is valid.
struct User {
    id: u32,
}

impl<S: Sync> FromRequestParts<S> for User {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        match parts.headers.get("authorization").map(HeaderValue::as_bytes) {
            Some(b"Bearer 7") => Ok(Self { id: 7 }),
            Some(b"Bearer 8") => Ok(Self { id: 8 }),
            _ => Err((StatusCode::UNAUTHORIZED, "who are you?")),
        }
    }
}

#[idempotent]
async fn json(Json(Counted): Json<Counted>) -> String {
    run()
}

#[idempotent(principal = user.id)]
async fn of_user(user: User, Json(Counted): Json<Counted>) -> String {
    format!("{} of {}", run(), user.id)
}

#[idempotent]
async fn text(_body: String) -> String {
    run()
}

#[idempotent]
async fn bytes(_body: Bytes) -> String {
    run()
}

fn app_on(store: impl Store, handler: MethodRouter) -> Router {
    Router::new().route("/", handler).layer(Idempotency::new(store))
}

fn app(handler: MethodRouter) -> Router {
    app_on(MemoryStore::new(), handler)
}

fn ask(key: &str) -> Ask {
    post("/").key(key).json("[1]")
}

/// Asserts that the second of these two requests gets a replay, and how often it is extracted.
async fn assert_read(app: &Router, first: Ask, second: Ask, reads: usize) -> Answer {
    let before = (READ.get(), RUNS.get());
    let first = first.send(app).await;
    assert_eq!((first.status, first.is_replay()), (StatusCode::OK, false), "{first:?}");
    assert_eq!((READ.get(), RUNS.get()), (before.0 + 1, before.1 + 1));
    let second = second.send(app).await;
    assert!(second.is_replay(), "{second:?}");
    assert_eq!((&second.body, RUNS.get()), (&first.body, before.1 + 1));
    assert_eq!(READ.get() - before.0 - 1, reads, "extracted for the replay");
    second
}

#[tokio::test]
async fn a_replay_from_memory_does_not_extract_json_again() {
    let shared = Arc::new(MemoryStore::new());
    let of_process = Router::new().route("/", route(json));
    for app in [app(route(json)), app_on(shared, route(json)), of_process] {
        let key = fresh_key();
        assert_read(&app, ask(&key), ask(&key), 0).await;
        let utf8 = |key: &str| {
            post("/").key(key).header("content-type", "application/json; charset=utf-8").body("[1]")
        };
        let key = fresh_key();
        assert_read(&app, utf8(&key), ask(&key), 0).await;
        let key = fresh_key();
        assert_read(&app, ask(&key), utf8(&key), 0).await;
        let key = fresh_key();
        let kin =
            || post("/").key(&key).header("content-type", "application/vnd.api+json").body("[1]");
        assert_read(&app, kin(), kin(), 0).await;
    }
}

#[tokio::test]
async fn nor_if_a_principal_is_known_before_it() {
    let app = app(route(of_user));
    let (key, other) = (fresh_key(), fresh_key());
    let of = |key: &str, token: &str| ask(key).header("authorization", format!("Bearer {token}"));
    assert_read(&app, of(&key, "7"), of(&key, "7"), 0).await;
    // Another user's key is a different key.
    assert_read(&app, of(&key, "8"), of(&key, "8"), 0).await;
    assert_read(&app, of(&other, "8"), of(&other, "8"), 0).await;
}

#[tokio::test]
async fn an_auth_extractor_refuses_before_the_look() {
    let app = app(route(of_user));
    let key = fresh_key();
    let valid = || ask(&key).header("authorization", "Bearer 7");
    assert_read(&app, valid(), valid(), 0).await;
    for refused in [ask(&key), ask(&key).header("authorization", "Bearer 9")] {
        let answer = refused.send(&app).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (401, "who are you?"));
    }
}

/// Whether the second of two requests is looked up before extraction.
async fn is_looked_up(app: &Router, first: Ask, second: Ask) -> bool {
    let (events, _guard) = Events::of_thread();
    assert!(!first.send(app).await.is_replay());
    assert!(second.send(app).await.is_replay());
    let events = events.all();
    let mut replays = events.iter().filter(|event| event.message.starts_with("response replayed"));
    let (Some(replay), None) = (replays.next(), replays.next()) else {
        panic!("one replay: {events:?}")
    };
    replay.message.contains("without extracting its request again")
}

#[tokio::test]
async fn text_and_bytes_are_looked_up_of_any_exact_type_and_without_one() {
    let typed = |key: &str, content_type: &'static str| {
        post("/").key(key).header("content-type", content_type).body("[1]")
    };
    for handler in [route(text), route(bytes)] {
        let app = app(handler);
        for content_type in ["text/plain", "text/plain; charset=utf-8", "x", "application/json"] {
            let key = fresh_key();
            let request = || typed(&key, content_type);
            assert!(is_looked_up(&app, request(), request()).await, "{content_type}");
        }
        let key = fresh_key();
        let untyped = || post("/").key(&key).body("[1]");
        assert!(is_looked_up(&app, untyped(), untyped()).await);
        for content_type in ["Text/plain", "text/plain; charset=latin1", "text/plain;a=b"] {
            for (first, second) in [("text/plain", content_type), (content_type, "text/plain")] {
                let key = fresh_key();
                let (first, second) = (typed(&key, first), typed(&key, second));
                assert!(!is_looked_up(&app, first, second).await, "{content_type}");
            }
        }
        let key = fresh_key();
        let request = || typed(&key, "text/plain");
        let shared = app_on(Leased::default(), route(text));
        assert!(!is_looked_up(&shared, request(), request()).await);
    }
}

/// A user's own extractor of the same name.
mod own {
    use super::{Counted, FromRequest, Request, Response};

    pub(super) struct Json<T>(pub(super) T);

    impl<S: Send + Sync> FromRequest<S> for Json<Counted> {
        type Rejection = Response;

        async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
            let json = axum::Json::from_request(request, state).await;
            json.map(|axum::Json(value)| Self(value))
                .map_err(axum::response::IntoResponse::into_response)
        }
    }
}

/// A body that a handler may borrow from.
#[derive(Deserialize)]
struct Named {
    id: u32,
    #[serde(rename = "rest")]
    _rest: Counted,
}

#[tokio::test]
async fn any_other_last_parameter_is_extracted_before_the_replay() {
    #[idempotent]
    async fn own_json(own::Json(Counted): own::Json<Counted>) -> String {
        run()
    }
    #[idempotent]
    async fn optional(_body: Option<Json<Counted>>) -> String {
        run()
    }
    #[idempotent]
    async fn result(
        _body: Result<Json<Counted>, axum::extract::rejection::JsonRejection>,
    ) -> String {
        run()
    }
    #[idempotent]
    async fn generic<E: FromRequest<()> + Send + 'static>(_body: E) -> String {
        run()
    }
    let apps = [
        app(route(own_json)),
        app(route(optional)),
        app(route(result)),
        app(route(generic::<Json<Counted>>)),
    ];
    for app in apps {
        let key = fresh_key();
        assert_read(&app, ask(&key), ask(&key), 1).await;
    }
}

#[tokio::test]
async fn a_form_is_extracted_before_the_replay() {
    #[idempotent]
    async fn form(Form(Counted): Form<Counted>) -> String {
        run()
    }
    let app = app(route(form));
    let key = fresh_key();
    let request = || {
        let content_type = "application/x-www-form-urlencoded";
        post("/").key(&key).header("content-type", content_type).body("a=1")
    };
    assert_read(&app, request(), request(), 1).await;
}

#[tokio::test]
async fn an_expression_of_the_last_parameter_has_it_extracted() {
    #[idempotent(principal = body.id)]
    async fn principal(Json(body): Json<Named>) -> String {
        format!("{} of {}", run(), body.id)
    }
    #[idempotent(principal = format!("{}", body.0.id))]
    async fn in_a_macro(body: Json<Named>) -> String {
        format!("{} of {}", run(), body.id)
    }
    for handler in [route(principal), route(in_a_macro)] {
        let app = app(handler);
        let key = fresh_key();
        let request = || post("/").key(&key).json(r#"{"id": 1, "rest": []}"#);
        assert_read(&app, request(), request(), 1).await;
    }
}

#[tokio::test]
async fn another_fingerprint_than_the_request_has_it_extracted() {
    #[idempotent(fingerprint = "json")]
    async fn by_value(Json(Counted): Json<Counted>) -> String {
        run()
    }
    #[idempotent(fingerprint = "path")]
    async fn by_path(Json(Counted): Json<Counted>) -> String {
        run()
    }
    #[idempotent(fingerprint = "none")]
    async fn by_key(Json(Counted): Json<Counted>) -> String {
        run()
    }
    #[idempotent(fingerprint = id)]
    async fn by_expression(Path(id): Path<u32>, Json(Counted): Json<Counted>) -> String {
        format!("{}: {id}", run())
    }
    for handler in [route(by_value), route(by_path), route(by_key), route(by_expression)] {
        let app = Router::new().route("/{id}", handler).layer(Idempotency::new(MemoryStore::new()));
        let key = fresh_key();
        let request = || post("/1").key(&key).json("[1]");
        assert_read(&app, request(), request(), 1).await;
    }
}

#[tokio::test]
async fn a_content_type_that_says_more_has_it_extracted() {
    let app = app(route(json));
    let typed = |key: &str, content_type: &'static str| {
        post("/").key(key).header("content-type", content_type).body("[1]")
    };
    let says_more = [
        "Application/JSON",
        "application/json; charset=UTF-8",
        "application/json;charset=utf-8",
        "application/json; charset=utf-8; a=b",
        "application/json; a=b",
        "application/json; charset=latin1",
    ];
    for content_type in says_more {
        for (first, second) in
            [("application/json", content_type), (content_type, "application/json")]
        {
            let key = fresh_key();
            assert_read(&app, typed(&key, first), typed(&key, second), 1).await;
        }
    }
    // Axum's own rejection, although the bytes are those of a stored request.
    let key = fresh_key();
    assert_eq!(ask(&key).send(&app).await.status, StatusCode::OK);
    for refused in [post("/").key(&key).body("[1]"), typed(&key, "application/json; a")] {
        assert_eq!(refused.send(&app).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
}

#[tokio::test]
async fn a_shared_store_has_it_extracted() {
    let app = app_on(Leased::default(), route(json));
    let key = fresh_key();
    assert_read(&app, ask(&key), ask(&key), 1).await;
}

/// Two services on one store, with handlers for the same operation at the same path.
#[tokio::test]
async fn what_was_extracted_as_another_type_is_extracted_as_this_one() {
    #[idempotent(scope = "operation")]
    async fn counted(Json(Counted): Json<Counted>) -> String {
        run()
    }
    #[idempotent(scope = "operation")]
    async fn other(Json(OtherCounted): Json<OtherCounted>) -> String {
        run()
    }
    #[idempotent(scope = "operation")]
    async fn strict(Json(_): Json<[bool; 3]>) -> String {
        run()
    }
    #[idempotent(scope = "operation")]
    async fn bytes(_body: Bytes) -> String {
        run()
    }
    #[idempotent(scope = "operation")]
    async fn text(_body: String) -> String {
        run()
    }
    let store = MemoryStore::new();
    let on_store = |handler| app_on(store.clone(), handler);
    let key = fresh_key();
    assert_eq!(ask(&key).send(&on_store(route(counted))).await.text(), "run 1");
    let reads = READ.get();
    assert!(ask(&key).send(&on_store(route(other))).await.is_replay());
    assert_eq!(READ.get(), reads + 1);
    // A body that this type refuses.
    let refused = ask(&key).send(&on_store(route(strict))).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.text().starts_with("Failed to deserialize"), "{}", refused.text());

    let key = fresh_key();
    let not_text = || post("/").key(&key).body(b"\xff".to_vec());
    assert_eq!(not_text().send(&on_store(route(bytes))).await.text(), "run 2");
    assert!(not_text().send(&on_store(route(bytes))).await.is_replay());
    let refused = not_text().send(&on_store(route(text))).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(RUNS.get(), 2);
}

/// An extractor that stops at a gate, and refuses every body but one.
struct Gated;

impl FromRequest<Gate> for Gated {
    type Rejection = (StatusCode, &'static str);

    async fn from_request(request: Request, gate: &Gate) -> Result<Self, Self::Rejection> {
        let body = Bytes::from_request(request, gate).await;
        if body.is_ok_and(|body| body == "good") {
            return Ok(Self);
        }
        gate.pass().await;
        Err((StatusCode::BAD_REQUEST, "bad"))
    }
}

#[tokio::test]
async fn a_bad_body_never_holds_the_key() {
    #[idempotent]
    async fn gated(_: Gated) -> String {
        run()
    }
    let stores: [fn() -> Idempotency; 2] =
        [|| Idempotency::new(MemoryStore::new()), || Idempotency::new(Leased::default())];
    for settings in stores {
        let gate = Gate::default();
        let app = Router::new().route("/", route(gated)).layer(settings()).with_state(gate.clone());
        let key = fresh_key();
        let bad = post("/").key(&key).body("bad").spawn(&app);
        gate.arrived.reaches(1).await;
        // It is still being extracted: the key is free, and belongs to no other request.
        let good = || post("/").key(&key).body("good");
        let first = good().send(&app).await;
        assert_eq!((first.status, first.is_replay()), (StatusCode::OK, false));
        gate.open(1);
        assert_eq!(bad.await.unwrap().text(), "bad");
        assert!(good().send(&app).await.is_replay());
    }
}

#[tokio::test]
async fn a_replay_by_the_look_is_that_of_the_whole_way() {
    #[idempotent(replay = "all")]
    async fn rich(Json(Counted): Json<Counted>) -> Response {
        let mut response = (StatusCode::ACCEPTED, "the body").into_response();
        for (name, value) in [
            ("link", "</a>; rel=next"),
            ("x-one", "1"),
            ("link", "</b>; rel=prev"),
            ("set-cookie", "session=1"),
            ("x-opaque", "a\tb"),
            ("link", "</a>; rel=next"),
        ] {
            response.headers_mut().append(name, HeaderValue::from_static(value));
        }
        let mut secret = HeaderValue::from_static("s");
        secret.set_sensitive(true);
        response.headers_mut().insert("x-secret", secret);
        response
    }
    let app = app(route(rich));
    let key = fresh_key();
    ask(&key).send(&app).await;
    let reads = READ.get();
    let looked_up = ask(&key).send(&app).await;
    assert_eq!(READ.get(), reads);
    let whole = post("/").key(&key).header("content-type", "application/json;charset=utf-8");
    let whole = whole.body("[1]").send(&app).await;
    assert_eq!(READ.get(), reads + 1);
    let lines = |answer: &Answer| -> Vec<_> {
        let lines = answer.headers.iter();
        lines.map(|(name, value)| (name.clone(), value.clone(), value.is_sensitive())).collect()
    };
    assert_eq!(lines(&looked_up), lines(&whole));
    assert_eq!(looked_up, whole);
    assert!(looked_up.is_replay());
    assert_eq!(looked_up.status, StatusCode::ACCEPTED);
    assert_eq!(looked_up.headers.get_all("link").iter().count(), 3);
}

#[tokio::test]
async fn a_look_finds_nothing_of_an_outcome_that_cannot_be_replayed() {
    #[idempotent]
    async fn large(Json(Counted): Json<Counted>) -> String {
        run() + &"x".repeat(1000)
    }
    let settings = Idempotency::new(MemoryStore::new()).max_response_bytes(1000);
    let app = Router::new().route("/", route(large)).layer(settings);
    let key = fresh_key();
    assert_eq!(ask(&key).send(&app).await.status, StatusCode::OK);
    for _ in 0..2 {
        let duplicate = ask(&key).send(&app).await;
        assert_eq!(duplicate.problem(), (409, "response_not_stored".to_owned()));
    }
    let other = post("/").key(&key).json("[2]").send(&app).await;
    assert_eq!(other.problem(), (422, "key_reused".to_owned()));
    assert_eq!(RUNS.get(), 1);
}

/// Extractors before the last one may have changed what the last one would see.
#[tokio::test]
async fn extractors_before_the_last_run_for_each_replay() {
    struct Seen;
    impl<S: Sync> FromRequestParts<S> for Seen {
        type Rejection = Infallible;

        async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Infallible> {
            count(&READ);
            Ok(Self)
        }
    }
    #[idempotent]
    async fn seen(_: Seen, _body: Bytes) -> String {
        run()
    }
    let app = app(route(seen));
    let key = fresh_key();
    for requests in 1..4 {
        assert_eq!(ask(&key).send(&app).await.is_replay(), requests > 1);
        assert_eq!((READ.get(), RUNS.get()), (requests, 1));
    }
}
