//! The options that are expressions over the parameters (`principal`, `key`, `fingerprint`): what
//! each changes, and when it is evaluated. Tests are named after their option.

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, Method},
    routing::{any, post as route},
};
use idempotent_axum::idempotent;
use idempotent_test_support::{Runs, ask, fresh_key, post};
use serde::Deserialize;

use crate::service::on_own_store;

#[idempotent]
async fn plain(State(runs): State<Runs>, _body: Bytes) -> String {
    runs.next()
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
    // The header is no longer read, valid or not.
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
    // A redelivery, worded differently.
    let again = post("/a?attempt=2").json(r#"{"id": "evt_1", "note": "2nd"}"#).send(&app).await;
    assert_eq!((again.text(), again.is_replay()), ("run 1", true));
    // Another path of the same operation.
    let reused = post("/b").json(event).send(&app).await;
    assert_eq!(reused.problem(), (422, "key_reused".to_owned()));
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn a_derived_key_belongs_to_its_principal() {
    #[idempotent(
        key = event.id,
        principal = headers.get("x-user").map(|user| String::from_utf8_lossy(user.as_bytes()))
    )]
    async fn order(
        State(runs): State<Runs>,
        headers: HeaderMap,
        Json(event): Json<Event>,
    ) -> String {
        drop((headers, event));
        runs.next()
    }
    let (app, runs) = on_own_store(Router::new().route("/", route(order)));
    let send = async |user: Option<&'static str>, body: &str| {
        let ask = post("/").json(body);
        let ask = user.into_iter().fold(ask, |ask, user| ask.header("x-user", user));
        let answer = ask.send(&app).await;
        (answer.is_replay(), answer.text().to_owned())
    };
    let (body, other) = (r#"{"id": "7"}"#, r#"{"id": "7", "note": "mine"}"#);
    // Guessing the key neither reveals another user's response nor plants one for them.
    for (run, user) in [(1, Some("ann")), (2, Some("bob")), (3, None)] {
        assert_eq!(send(user, body).await, (false, format!("run {run}")));
        assert_eq!(send(user, body).await, (true, format!("run {run}")));
    }
    assert_eq!(send(Some("ann"), other).await, (true, "run 1".to_owned()));
    assert_eq!(runs.count(), 3);
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
async fn method_and_path_count_beside_a_fingerprint_expression() {
    #[derive(Deserialize)]
    struct Payment {
        cents: u64,
        #[serde(default)]
        note: String,
    }
    // One scope for all methods and templates: only the fingerprint tells requests apart.
    #[idempotent(fingerprint = pay.cents, scope = "pay")]
    async fn pay(
        State(runs): State<Runs>,
        Path(account): Path<u64>,
        Json(pay): Json<Payment>,
    ) -> String {
        drop(pay.note);
        format!("{}: account {account}", runs.next())
    }
    let routes = Router::new()
        .route("/accounts/{id}/pay", any(pay))
        .nest("/v2", Router::new().route("/accounts/{id}/pay", any(pay)));
    let (app, runs) = on_own_store(routes);
    let key = fresh_key();
    let send = async |method: Method, path: &str, body: &str| {
        ask(method, path).key(&key).json(body).send(&app).await
    };
    let (path, body) = ("/accounts/1/pay", r#"{"cents": 100}"#);
    assert_eq!(send(Method::POST, path, body).await.text(), "run 1: account 1");
    // The expression replaces query, content type and body.
    let same = send(Method::POST, "/accounts/1/pay?try=2", r#"{"cents": 100, "note": "2"}"#).await;
    assert_eq!((same.text(), same.is_replay()), ("run 1: account 1", true));
    for (method, path) in [
        (Method::POST, "/accounts/2/pay"),
        (Method::POST, "/v2/accounts/1/pay"),
        (Method::PUT, path),
    ] {
        let other = send(method, path, body).await;
        assert_eq!(other.problem(), (422, "key_reused".to_owned()), "{path}");
    }
    assert_eq!(runs.count(), 1);
}

/// Two options on one handler: neither keeps the other from being read.
#[idempotent(key = id, principal = None::<u64>, ttl = "1h 30m")]
async fn keyed(Path(id): Path<u64>, Json(count): Json<u64>) -> String {
    format!("{id} {count}")
}

#[tokio::test]
async fn options_that_are_expressions_and_others_stand_beside_each_other() {
    let (app, _) = on_own_store(Router::new().route("/{id}", route(keyed)));
    let send = async |path: &str| {
        let answer = post(path).json("1").send(&app).await;
        (answer.is_replay(), answer.text().to_owned())
    };
    assert_eq!(send("/1").await, (false, "1 1".to_owned()));
    assert_eq!(send("/1").await, (true, "1 1".to_owned()));
    assert_eq!(send("/2").await, (false, "2 1".to_owned()));
}
