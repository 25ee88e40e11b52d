//! The option table of the contract: for each row what the option changes, and what its default is.
//! Tests are named after their row.

use std::time::Duration;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::{any as any_method, post as route},
};
use idempotent_axum::{Idempotency, MemoryStore, idempotent};
use idempotent_test_support::{Gate, PATIENCE, Runs, ask, fresh_key, post};
use serde::Deserialize;

/// A router with a store of its own around these routes.
fn on_own_store(app: Router<Runs>) -> (Router, Runs) {
    let runs = Runs::default();
    let app = app.layer(Idempotency::new(MemoryStore::new())).with_state(runs.clone());
    (app, runs)
}

#[tokio::test]
async fn ttl_ends_replays_counted_from_when_the_response_was_stored() {
    #[idempotent(ttl = "1s")]
    async fn handler(State(runs): State<Runs>) -> String {
        runs.next()
    }
    let (app, runs) = on_own_store(Router::new().route("/", route(handler)));
    let key = fresh_key();
    let stored = tokio::time::Instant::now();
    assert_eq!(post("/").key(&key).send(&app).await.text(), "run 1");
    // Asking all the time shows that a replay does not extend the ttl: it would never end.
    let second = async {
        loop {
            let asked = stored.elapsed();
            let answer = post("/").key(&key).send(&app).await;
            if !answer.is_replay() {
                return answer;
            }
            assert_eq!(answer.text(), "run 1");
            assert!(asked < Duration::from_secs(10), "replayed long after the ttl");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let second = tokio::time::timeout(PATIENCE, second).await.expect("the ttl passes");
    assert!(stored.elapsed() >= Duration::from_secs(1), "gone before its ttl");
    assert_eq!((second.text(), runs.count()), ("run 2", 2));
}

#[tokio::test]
async fn ttl_takes_every_form_of_a_duration() {
    #[idempotent(ttl = "7d")]
    async fn days(State(runs): State<Runs>) -> String {
        runs.next()
    }
    #[idempotent(ttl = "90s")]
    async fn seconds(State(runs): State<Runs>) -> String {
        runs.next()
    }
    #[idempotent(ttl = "1h 30m")]
    async fn mixed(State(runs): State<Runs>) -> String {
        runs.next()
    }
    let (app, runs) = on_own_store(
        Router::new()
            .route("/days", route(days))
            .route("/seconds", route(seconds))
            .route("/mixed", route(mixed)),
    );
    for path in ["/days", "/seconds", "/mixed"] {
        let key = fresh_key();
        let first = post(path).key(&key).send(&app).await;
        let second = post(path).key(&key).send(&app).await;
        assert!(second.is_replay());
        assert_eq!(first.body, second.body);
    }
    assert_eq!(runs.count(), 3);
}

#[tokio::test]
async fn header_names_where_the_key_is_read() {
    #[idempotent(header = "X-Request-Key")]
    async fn one(State(runs): State<Runs>) -> String {
        runs.next()
    }
    #[idempotent(header = ["x-a", "x-b"])]
    async fn two(State(runs): State<Runs>) -> String {
        runs.next()
    }
    let (app, _) = on_own_store(Router::new().route("/one", route(one)).route("/two", route(two)));
    let key = fresh_key();
    let replayed = async |path: &'static str, name: &'static str| {
        post(path).header(name, &key).send(&app).await.is_replay()
    };
    assert!(!replayed("/one", "x-request-key").await);
    assert!(replayed("/one", "x-request-key").await);
    assert!(!replayed("/two", "x-a").await);
    assert!(replayed("/two", "x-b").await);
    // The default names mean nothing here.
    for path in ["/one", "/two"] {
        for name in ["idempotency-key", "x-idempotency-key"] {
            assert!(!replayed(path, name).await);
            assert!(!replayed(path, name).await);
        }
    }
}

#[tokio::test]
async fn header_defaults_to_idempotency_key_and_x_idempotency_key() {
    let (app, runs) = on_own_store(Router::new().route("/", route(plain)));
    let key = fresh_key();
    for name in ["idempotency-key", "x-idempotency-key"] {
        assert_eq!(post("/").header(name, &key).send(&app).await.text(), "run 1");
    }
    assert_eq!(runs.count(), 1);
}

#[idempotent]
async fn plain(State(runs): State<Runs>, _body: Bytes) -> String {
    runs.next()
}

#[tokio::test]
async fn format_says_which_keys_are_valid() {
    #[idempotent(format = "uuid")]
    async fn uuid() {}
    #[idempotent(format = "uuid-v4")]
    async fn uuid_v4() {}
    #[idempotent(format = "any", principal = "everyone")]
    async fn any() {}
    #[idempotent]
    async fn default() {}

    let app = Router::new()
        .route("/uuid", route(uuid))
        .route("/uuid-v4", route(uuid_v4))
        .route("/any", route(any))
        .route("/default", route(default))
        .layer(Idempotency::new(MemoryStore::new()));
    let v1 = "c232ab00-9414-11ec-b3c8-9f6bdeced846";
    let v4 = "919108f7-52d1-4320-9bac-f847db4148a8";
    let valid = [
        ("/uuid", [true, true, false]),
        ("/uuid-v4", [false, true, false]),
        ("/any", [true, true, true]),
        ("/default", [true, true, false]),
    ];
    for (path, valid) in valid {
        for (key, valid) in [v1, v4, "order 1"].into_iter().zip(valid) {
            let status = post(path).key(key).send(&app).await.status;
            assert_eq!(status == StatusCode::OK, valid, "{path} {key}: {status}");
        }
    }
}

#[tokio::test]
async fn required_refuses_a_request_without_a_key() {
    #[idempotent(required)]
    async fn handler(State(runs): State<Runs>, _body: Bytes) -> String {
        runs.next()
    }
    let app = Router::new().route("/required", route(handler)).route("/optional", route(plain));
    let (app, runs) = on_own_store(app);
    let answer = post("/required").send(&app).await;
    assert_eq!(answer.problem(), (400, "missing_key".to_owned()));
    assert_eq!(runs.count(), 0);
    assert_eq!(post("/required").key(fresh_key()).send(&app).await.text(), "run 1");
    // Off by default.
    assert_eq!(post("/optional").send(&app).await.text(), "run 2");
}

#[idempotent]
async fn replay_default(State(runs): State<Runs>, Path(status): Path<u16>) -> (StatusCode, String) {
    (StatusCode::from_u16(status).expect("a status"), runs.next())
}

#[idempotent(replay = "all")]
async fn replay_all(State(runs): State<Runs>, Path(status): Path<u16>) -> (StatusCode, String) {
    (StatusCode::from_u16(status).expect("a status"), runs.next())
}

#[idempotent(replay = "2xx")]
async fn replay_2xx(State(runs): State<Runs>, Path(status): Path<u16>) -> (StatusCode, String) {
    (StatusCode::from_u16(status).expect("a status"), runs.next())
}

#[idempotent(replay = ["4xx", "201", "503"])]
async fn replay_mixed(State(runs): State<Runs>, Path(status): Path<u16>) -> (StatusCode, String) {
    (StatusCode::from_u16(status).expect("a status"), runs.next())
}

#[idempotent(replay = "409")]
async fn replay_code(State(runs): State<Runs>, Path(status): Path<u16>) -> (StatusCode, String) {
    (StatusCode::from_u16(status).expect("a status"), runs.next())
}

#[tokio::test]
async fn replay_says_which_statuses_are_stored_and_any_other_releases_the_key() {
    type Stored = fn(u16) -> bool;

    let (app, _) = on_own_store(
        Router::new()
            .route("/default/{status}", route(replay_default))
            .route("/all/{status}", route(replay_all))
            .route("/2xx/{status}", route(replay_2xx))
            .route("/mixed/{status}", route(replay_mixed))
            .route("/code/{status}", route(replay_code)),
    );
    let statuses = [
        200, 201, 202, 204, 299, 300, 302, 304, 308, 400, 402, 404, 409, 422, 499, 500, 503, 599,
        799,
    ];
    let stored: [(&str, Stored); 5] = [
        ("default", |status| (200..400).contains(&status)),
        ("all", |_| true),
        ("2xx", |status| (200..300).contains(&status)),
        ("mixed", |status| (400..500).contains(&status) || [201, 503].contains(&status)),
        ("code", |status| status == 409),
    ];
    for (option, stored) in stored {
        for status in statuses {
            let (key, path) = (fresh_key(), format!("/{option}/{status}"));
            let first = post(&path).key(&key).send(&app).await;
            let second = post(&path).key(&key).send(&app).await;
            assert_eq!((first.status.as_u16(), second.status.as_u16()), (status, status), "{path}");
            assert_eq!(second.is_replay(), stored(status), "{path}");
            assert_eq!(first.body == second.body, stored(status), "{path}");
        }
    }
}

#[tokio::test]
async fn wait_0s_answers_a_concurrent_duplicate_at_once() {
    #[idempotent(wait = "0s")]
    async fn handler(State(gate): State<Gate>) -> &'static str {
        gate.pass().await;
        "passed"
    }
    let gate = Gate::default();
    let app = Router::new().route("/", route(handler)).with_state(gate.clone());
    let key = fresh_key();
    let first = post("/").key(&key).spawn(&app);
    gate.arrived.reaches(1).await;
    // The first one cannot end before this answer is there.
    let duplicate = post("/").key(&key).send(&app).await;
    assert_eq!(duplicate.problem(), (409, "request_in_progress".to_owned()));
    gate.open(1);
    assert_eq!(first.await.expect("no panic").text(), "passed");
    assert!(post("/").key(&key).send(&app).await.is_replay());
}

#[tokio::test(start_paused = true)]
async fn wait_is_how_long_a_concurrent_duplicate_waits() {
    #[idempotent(wait = "3s")]
    async fn three(State(gate): State<Gate>) -> &'static str {
        gate.pass().await;
        "passed"
    }
    #[idempotent]
    async fn default(State(gate): State<Gate>) -> &'static str {
        gate.pass().await;
        "passed"
    }
    let gate = Gate::default();
    let app = Router::new()
        .route("/three", route(three))
        .route("/default", route(default))
        .with_state(gate.clone());
    for (runs, path, seconds) in [(1, "/three", 3), (2, "/default", 10)] {
        let key = fresh_key();
        let first = post(path).key(&key).spawn(&app);
        gate.arrived.reaches(runs).await;
        // The clock is virtual: it moves only when everything waits, and then exactly.
        let arrived = tokio::time::Instant::now();
        let duplicate = post(path).key(&key).send(&app).await;
        assert_eq!(duplicate.problem(), (409, "request_in_progress".to_owned()));
        let waited = arrived.elapsed();
        assert_eq!(waited.as_secs(), seconds, "{path}: {waited:?}");
        gate.open(1);
        assert_eq!(first.await.expect("no panic").text(), "passed");
    }
}

#[tokio::test]
async fn principal_keeps_equal_keys_of_different_callers_apart() {
    struct User {
        id: u32,
    }
    fn user(headers: &HeaderMap) -> Option<User> {
        let id = headers.get("x-user")?.to_str().ok()?.parse().ok()?;
        Some(User { id })
    }
    #[idempotent(principal = user(&headers).map(|user| user.id))]
    async fn handler(State(runs): State<Runs>, headers: HeaderMap, _body: Bytes) -> String {
        drop(headers);
        runs.next()
    }
    let (app, runs) = on_own_store(Router::new().route("/", route(handler)));
    let key = fresh_key();
    let send = async |user: Option<&str>| {
        let ask = post("/").key(&key);
        match user {
            Some(user) => ask.header("x-user", user),
            None => ask,
        }
        .send(&app)
        .await
        .text()
        .to_owned()
    };
    for _ in 0..2 {
        assert_eq!(send(Some("1")).await, "run 1");
        assert_eq!(send(Some("2")).await, "run 2");
        assert_eq!(send(None).await, "run 3");
    }
    assert_eq!(runs.count(), 3);
}

#[derive(Deserialize)]
struct Event {
    id: Option<String>,
    #[serde(default)]
    note: String,
}

#[idempotent(key = event.id, principal = "everyone")]
async fn webhook(State(runs): State<Runs>, Json(event): Json<Event>) -> String {
    let Event { id, note } = event;
    drop((id, note));
    runs.next()
}

#[tokio::test]
async fn key_is_derived_from_the_request() {
    let (app, runs) = on_own_store(Router::new().route("/", route(webhook)));
    let event = r#"{"id": "evt_1"}"#;
    assert_eq!(post("/").json(event).send(&app).await.text(), "run 1");
    assert!(post("/").json(event).send(&app).await.is_replay());
    // No header is read any more, valid or not.
    for key in [fresh_key(), "invalid".to_owned(), String::new()] {
        assert_eq!(post("/").key(key).json(event).send(&app).await.text(), "run 1");
    }
    assert_eq!(post("/").json(r#"{"id": "evt_2"}"#).send(&app).await.text(), "run 2");
    assert_eq!(runs.count(), 2);
}

#[tokio::test]
async fn with_key_the_fingerprint_is_the_path_by_default() {
    let (app, runs) = on_own_store(Router::new().route("/{source}", route(webhook)));
    let event = r#"{"id": "evt_1"}"#;
    assert_eq!(post("/a").json(event).send(&app).await.text(), "run 1");
    // It is delivered again, in other words.
    let again = post("/a?attempt=2").json(r#"{"id": "evt_1", "note": "2nd"}"#).send(&app).await;
    assert_eq!((again.text(), again.is_replay()), ("run 1", true));
    // Another path of the same operation.
    let reused = post("/b").json(event).send(&app).await;
    assert_eq!(reused.problem(), (422, "key_reused".to_owned()));
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn key_of_none_is_no_key() {
    let (app, _) = on_own_store(Router::new().route("/", route(webhook)));
    for run in ["run 1", "run 2"] {
        let answer = post("/").json(r#"{"id": null}"#).send(&app).await;
        assert_eq!((answer.text(), answer.is_replay()), (run, false));
    }
}

#[tokio::test]
async fn key_that_is_empty_is_400() {
    let (app, runs) = on_own_store(Router::new().route("/", route(webhook)));
    let answer = post("/").json(r#"{"id": ""}"#).send(&app).await;
    assert_eq!(answer.problem(), (400, "invalid_key".to_owned()));
    assert_eq!(runs.count(), 0);
}

#[tokio::test]
async fn key_is_taken_as_it_is_at_any_length() {
    let (app, runs) = on_own_store(Router::new().route("/", route(webhook)));
    let long = "k".repeat(100_000);
    // None of them is trimmed, unquoted or cut.
    let ids = ["a", " a", "A", "\\\"a\\\"", "\u{e9}\u{1f600}", "a\\n", &long, &format!("{long}k")];
    for id in ids {
        let event = format!(r#"{{"id": "{id}"}}"#);
        let first = post("/").json(&event).send(&app).await;
        let second = post("/").json(&event).send(&app).await;
        assert!(!first.is_replay() && second.is_replay(), "{}", &id[..id.len().min(9)]);
    }
    assert_eq!(runs.count(), ids.len());
}

#[tokio::test]
async fn key_may_be_a_display_value() {
    #[idempotent(key = number, principal = "everyone")]
    async fn handler(State(runs): State<Runs>, Path(number): Path<u64>) -> String {
        runs.next() + &" ".repeat(usize::try_from(number).unwrap_or(0))
    }
    let (app, runs) = on_own_store(Router::new().route("/{number}", route(handler)));
    for (path, text) in [("/1", "run 1 "), ("/2", "run 2  "), ("/1", "run 1 "), ("/2", "run 2  ")] {
        assert_eq!(post(path).send(&app).await.text(), text);
    }
    assert_eq!(runs.count(), 2);
}

#[tokio::test]
async fn expressions_are_evaluated_only_where_there_is_a_key() {
    #[idempotent(principal = evaluated.next(), fingerprint = evaluated.next())]
    async fn header(State(evaluated): State<Runs>) {}
    #[idempotent(key = key.get("x-key").map(|_| "k"), principal = evaluated.next())]
    async fn derived(State(evaluated): State<Runs>, key: HeaderMap) {}

    let (app, evaluated) =
        on_own_store(Router::new().route("/header", route(header)).route("/key", route(derived)));
    post("/header").send(&app).await;
    assert_eq!(evaluated.count(), 0);
    post("/header").key(fresh_key()).send(&app).await;
    assert_eq!(evaluated.count(), 2);
    post("/key").send(&app).await;
    assert_eq!(evaluated.count(), 2);
    post("/key").header("x-key", "").send(&app).await;
    assert_eq!(evaluated.count(), 3);
}

#[tokio::test]
async fn fingerprint_request_is_the_default() {
    #[idempotent(fingerprint = "request")]
    async fn stated(State(runs): State<Runs>, _body: Bytes) -> String {
        runs.next()
    }
    let (app, _) =
        on_own_store(Router::new().route("/default", route(plain)).route("/stated", route(stated)));
    for path in ["/default", "/stated"] {
        let key = fresh_key();
        assert_eq!(post(path).key(&key).body("a").send(&app).await.status, 200);
        assert!(post(path).key(&key).body("a").send(&app).await.is_replay());
        let reused = post(path).key(&key).body("b").send(&app).await;
        assert_eq!(reused.problem(), (422, "key_reused".to_owned()));
    }
}

#[tokio::test]
async fn fingerprint_none_makes_any_request_with_the_key_the_same() {
    #[idempotent(fingerprint = "none")]
    async fn handler(State(runs): State<Runs>, _body: Bytes) -> String {
        runs.next()
    }
    let (app, runs) = on_own_store(Router::new().route("/{id}", route(handler)));
    let key = fresh_key();
    assert_eq!(post("/1").key(&key).body("a").send(&app).await.text(), "run 1");
    let others =
        [post("/1").body("b"), post("/1?q").body("a"), post("/2").body("a"), post("/1").json("{}")];
    for other in others {
        assert_eq!(other.key(&key).send(&app).await.text(), "run 1");
    }
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn fingerprint_expression_is_all_that_must_be_equal() {
    #[derive(Deserialize, Hash)]
    struct Payment {
        amount: u64,
        to: String,
    }
    #[derive(Deserialize)]
    struct Order {
        payment: Payment,
        sent_at: String,
    }
    #[idempotent(fingerprint = order.payment)]
    async fn handler(State(runs): State<Runs>, Json(order): Json<Order>) -> String {
        let Order { payment: Payment { amount, to }, sent_at } = order;
        drop((amount, to, sent_at));
        runs.next()
    }
    let (app, runs) = on_own_store(Router::new().route("/", route(handler)));
    let key = fresh_key();
    let send = async |amount: u64, to: &str, sent_at: &str| {
        let order = format!(
            r#"{{"payment": {{"amount": {amount}, "to": "{to}"}}, "sent_at": "{sent_at}"}}"#
        );
        post("/").key(&key).json(&order).send(&app).await
    };
    assert_eq!(send(100, "ann", "now").await.text(), "run 1");
    assert_eq!(send(100, "ann", "later").await.text(), "run 1");
    assert_eq!(send(101, "ann", "now").await.problem(), (422, "key_reused".to_owned()));
    assert_eq!(send(100, "bob", "now").await.problem(), (422, "key_reused".to_owned()));
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn scope_names_the_operation_and_two_handlers_with_one_scope_share_keys() {
    #[idempotent(scope = "pay", fingerprint = "none")]
    async fn one(State(runs): State<Runs>) -> String {
        runs.next()
    }
    #[idempotent(scope = "pay", fingerprint = "none")]
    async fn two(State(runs): State<Runs>) -> String {
        runs.next()
    }
    #[idempotent(scope = "refund", fingerprint = "none")]
    async fn other(State(runs): State<Runs>) -> String {
        runs.next()
    }
    #[idempotent(fingerprint = "none")]
    async fn unnamed(State(runs): State<Runs>) -> String {
        runs.next()
    }
    let (app, runs) = on_own_store(
        Router::new()
            .route("/one", any_method(one))
            .route("/two", any_method(two))
            .route("/other", any_method(other))
            .route("/pay", any_method(unnamed)),
    );
    let key = fresh_key();
    let send = async |method: &str, path: &str| {
        let method = method.parse().expect("a method");
        ask(method, path).key(&key).send(&app).await.text().to_owned()
    };
    assert_eq!(send("POST", "/one").await, "run 1");
    assert_eq!(send("POST", "/two").await, "run 1");
    assert_eq!(send("PUT", "/two").await, "run 1");
    assert_eq!(send("POST", "/other").await, "run 2");
    // Without a scope: method and route.
    assert_eq!(send("POST", "/pay").await, "run 3");
    assert_eq!(send("PUT", "/pay").await, "run 4");
    assert_eq!(runs.count(), 4);
}

#[tokio::test]
async fn scope_defaults_to_method_and_route_template() {
    #[idempotent(fingerprint = "none")]
    async fn handler(State(runs): State<Runs>) -> String {
        runs.next()
    }
    let inner = Router::new().route("/{id}", any_method(handler));
    let (app, _) = on_own_store(
        Router::new().nest("/users", inner.clone()).nest("/orders", inner.clone()).merge(inner),
    );
    let key = fresh_key();
    let send = async |method: &str, path: &str| {
        let method = method.parse().expect("a method");
        ask(method, path).key(&key).send(&app).await.text().to_owned()
    };
    for _ in 0..2 {
        assert_eq!(send("POST", "/users/1").await, "run 1");
        assert_eq!(send("POST", "/orders/1").await, "run 2");
        assert_eq!(send("PATCH", "/users/1").await, "run 3");
        assert_eq!(send("POST", "/1").await, "run 4");
    }
    // One template, so one operation: only the fingerprint tells the ids apart.
    assert_eq!(send("POST", "/users/2").await, "run 1");
}

mod renamed {
    //! Stands for a dependency under another name.
    pub(crate) use idempotent_axum as of_another_name;
}

#[tokio::test]
async fn crate_is_where_generated_code_finds_the_library() {
    #[idempotent(crate = renamed::of_another_name, principal = "everyone")]
    async fn handler(State(runs): State<Runs>) -> String {
        runs.next()
    }
    let (app, runs) = on_own_store(Router::new().route("/", route(handler)));
    let key = fresh_key();
    post("/").key(&key).send(&app).await;
    assert!(post("/").key(&key).send(&app).await.is_replay());
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn a_handler_called_directly_runs_without_a_key() {
    #[idempotent(required, principal = name)]
    async fn greet(State(runs): State<Runs>, name: String) -> String {
        format!("{name}: {}", runs.next())
    }
    #[idempotent(required)]
    async fn nothing() -> StatusCode {
        StatusCode::CREATED
    }
    let runs = Runs::default();
    for run in ["ann: run 1", "ann: run 2"] {
        let response = greet(State(runs.clone()), "ann".to_owned().into()).await;
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
        assert_eq!(body.expect("a body in memory"), run);
    }
    assert_eq!(nothing(().into()).await.status(), StatusCode::CREATED);
}
