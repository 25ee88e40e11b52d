//! `assert_executed` and `assert_replayed`: what passes them, and what they say otherwise.

use std::{
    panic::{self, AssertUnwindSafe, catch_unwind},
    sync::mpsc,
};

use axum::{
    Router,
    http::{HeaderValue, StatusCode, header},
    middleware::map_response,
    response::{IntoResponse as _, Response},
    routing::post as route,
};
use idempotent_axum::{
    Idempotency, MemoryStore, Outcome, Problem, ProblemCode, RunBoundary, idempotent,
    testing::{FailingStore, Fault, assert_executed, assert_replayed},
};
use idempotent_test_support::{Server, alone, fresh_key, post};

#[idempotent]
async fn pay(order: String) -> Response {
    match &*order {
        "declined" => StatusCode::PAYMENT_REQUIRED.into_response(),
        "unknown" => (Outcome::Unknown, StatusCode::OK).into_response(),
        "large" => "x".repeat(10).into_response(),
        _ => (StatusCode::CREATED, order).into_response(),
    }
}

#[idempotent(required)]
async fn strict() {}

async fn unprotected() -> StatusCode {
    StatusCode::CONFLICT
}

fn routes() -> Router {
    Router::new()
        .route("/pay", route(pay))
        .route("/strict", route(strict))
        .route("/unprotected", route(unprotected))
}

fn app() -> Router {
    routes().layer(Idempotency::new(MemoryStore::new()).max_response_bytes(9))
}

/// The responses to a request and to its retry.
async fn twice(app: &Router, order: &'static str) -> (Response, Response) {
    let key = fresh_key();
    let send = async || post("/pay").key(&key).body(order).begin(app).await;
    (send().await, send().await)
}

/// What a failed assertion says.
fn said(assertion: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(assertion)).expect_err("the assertion fails");
    *panic.downcast::<String>().expect("a message with values")
}

#[tokio::test]
async fn a_run_and_its_replay_pass() {
    let (first, retry) = twice(&app(), "apples").await;
    assert_executed(&first);
    assert_replayed(&retry);
    // Whatever the status, with a key or without, and called directly.
    assert_executed(&twice(&app(), "declined").await.1);
    assert_executed(&post("/pay").body("declined").begin(&app()).await);
    assert_executed(&pay("declined".to_owned().into()).await);
}

#[tokio::test]
async fn a_run_and_its_replay_pass_a_boundary() {
    async fn pass_on(response: Response) -> Response {
        response
    }
    let layered = routes()
        .layer(map_response(pass_on))
        .layer(RunBoundary::new())
        .layer(Idempotency::new(MemoryStore::new()));
    let (first, retry) = twice(&layered, "apples").await;
    assert_executed(&first);
    assert_replayed(&retry);
    assert_executed(&twice(&layered, "declined").await.1);
}

#[tokio::test]
#[should_panic(expected = "the response is not a replay: the handler ran\n    201 Created\n")]
async fn a_run_is_not_a_replay() {
    assert_replayed(&twice(&app(), "apples").await.0);
}

#[tokio::test]
#[should_panic(expected = "look at the attribute's `replay`")]
async fn a_run_that_is_not_stored_is_not_a_replay() {
    assert_replayed(&twice(&app(), "declined").await.1);
}

#[tokio::test]
#[should_panic(expected = "the response is not the handler's: it is a replay\n    201 Created\n")]
async fn a_replay_is_not_executed() {
    assert_executed(&twice(&app(), "apples").await.1);
}

#[tokio::test]
#[should_panic(expected = "it does not say who answered\n    404")]
async fn what_the_router_answers_is_not_executed() {
    assert_executed(&post("/paid").key(fresh_key()).begin(&app()).await);
}

#[tokio::test]
#[should_panic(expected = "it does not say who answered\n    413")]
async fn what_an_extractor_answers_is_not_executed() {
    let app = routes().layer(axum::extract::DefaultBodyLimit::max(2));
    assert_executed(&post("/pay").body("apples").begin(&app).await);
}

#[tokio::test]
#[should_panic(expected = "409 Conflict")]
async fn what_a_handler_without_the_attribute_refuses_is_not_executed() {
    assert_executed(&post("/unprotected").key(fresh_key()).begin(&app()).await);
}

#[tokio::test]
async fn a_failure_tells_status_headers_and_what_to_look_at() {
    let mut response = twice(&app(), "apples").await.0;
    let mut secret = HeaderValue::from_static("secret");
    secret.set_sensitive(true);
    response.headers_mut().insert(header::AUTHORIZATION, secret);
    let expected = "\
the response is not a replay: the handler ran
    201 Created
    content-type: \"text/plain; charset=utf-8\"
    content-length: \"6\"
    authorization: Sensitive
look at whether an earlier request had the same key, principal and route, and was stored in the same \
store (each `MemoryStore::new()` has keys of its own); whether its ttl has passed. Without a key \
every request runs";
    assert_eq!(said(|| assert_replayed(&response)), expected);
}

/// Asserts that both assertions reject the response, naming its code and `look_at`.
fn assert_refused(response: &Response, code: ProblemCode, look_at: &str) {
    let replayed = said(|| assert_replayed(response));
    let executed = said(|| assert_executed(response));
    for said in [replayed, executed] {
        let first = format!(": the library answered with `{code}`\n    {}\n", response.status());
        assert!(said.contains(&first), "{said}");
        let (_, last) = said.rsplit_once("\nlook at ").expect("it says what to look at");
        assert!(last.starts_with(look_at), "{said}");
    }
}

#[tokio::test]
async fn a_refusal_is_neither_and_its_code_says_what_to_look_at() {
    let bad = post("/pay").key("bad").begin(&app()).await;
    assert_refused(&bad, ProblemCode::InvalidKey, "the key");
    let none = post("/strict").begin(&app()).await;
    assert_refused(&none, ProblemCode::MissingKey, "the headers");
    let two = post("/pay").key(fresh_key()).header("x-idempotency-key", fresh_key());
    let two = two.begin(&app()).await;
    assert_refused(&two, ProblemCode::ConflictingKeys, "the headers");

    let (app, key) = (app(), fresh_key());
    post("/pay").key(&key).body("apples").begin(&app).await;
    let reused = post("/pay").key(&key).body("pears").begin(&app).await;
    assert_refused(&reused, ProblemCode::KeyReused, "the first request");
    let (_, large) = twice(&app, "large").await;
    assert_refused(&large, ProblemCode::ResponseNotStored, "the first response");
    let (_, unknown) = twice(&app, "unknown").await;
    assert_refused(&unknown, ProblemCode::OutcomeUnknown, "the first run");

    let store = FailingStore::new(MemoryStore::new());
    store.always(Fault::NotSent);
    let (down, _) = twice(&routes().layer(Idempotency::new(store)), "apples").await;
    assert_refused(&down, ProblemCode::StoreUnavailable, "the store");
}

#[tokio::test]
async fn a_refusal_is_known_in_a_format_of_the_services_own() {
    let idempotency = Idempotency::new(MemoryStore::new());
    let own = idempotency.error_response(|_: Problem| (StatusCode::OK, "no"));
    let refused = post("/pay").key("bad").begin(&routes().layer(own)).await;
    assert_refused(&refused, ProblemCode::InvalidKey, "the key");
}

/// A response as a client builds it from what came over the wire.
async fn over_a_socket(server: &Server, order: &str, key: &str) -> axum::http::Response<()> {
    let answer = server.post("/pay", key, order).await;
    let mut response = axum::http::Response::new(());
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

#[tokio::test]
async fn over_a_socket_an_error_is_not_taken_for_the_handlers() {
    let server = Server::start(app()).await;
    let key = fresh_key();
    assert_executed(&over_a_socket(&server, "apples", &key).await);
    let replay = over_a_socket(&server, "apples", &key).await;
    assert_replayed(&replay);
    said(|| assert_executed(&replay));
    let declined = over_a_socket(&server, "declined", &fresh_key()).await;
    let said = said(|| assert_executed(&declined));
    assert!(said.contains("402 Payment Required"), "{said}");
    assert!(said.ends_with("assert on status and body"), "{said}");
}

/// In its own process, because its panics are.
#[test]
fn a_failure_points_at_the_test() {
    alone(async || {
        let (sender, places) = mpsc::channel();
        panic::set_hook(Box::new(move |panic| {
            let place = panic.location().expect("a place").file().to_owned();
            sender.send(place).expect("it is received");
        }));
        let response = StatusCode::NOT_FOUND.into_response();
        said(|| assert_replayed(&response));
        said(|| assert_executed(&response));
        drop(panic::take_hook());
        assert_eq!(places.into_iter().collect::<Vec<_>>(), [file!(), file!()]);
    });
}
