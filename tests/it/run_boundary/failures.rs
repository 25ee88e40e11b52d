//! What a failure inside the boundary means: an error, a panic, and a handler that its own layers
//! cut short.

use std::{convert::Infallible, time::Duration};

use axum::{
    Router,
    error_handling::HandleErrorLayer,
    extract::{Request, State},
    http::StatusCode,
    middleware::{Next, from_fn, from_fn_with_state, map_response},
    response::{IntoResponse as _, Response},
    routing::post as route,
};
use idempotent_axum::{MemoryStore, Outcome, RunBoundary, idempotent};
use idempotent_test_support::{Counter, Gate};
use tower::{BoxError, ServiceBuilder};
use tower_http::{catch_panic::CatchPanicLayer, timeout::TimeoutLayer};

use super::{App, Seen, Service, first, replay, routes, service, service_of, unknown};

const LIMIT: Duration = Duration::from_secs(1);

fn timeout() -> TimeoutLayer {
    TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, LIMIT)
}

async fn error(_: BoxError) -> StatusCode {
    StatusCode::BAD_GATEWAY
}

/// A service inside whose boundary a layer fails after the handler, twice.
fn failing_after() -> Service {
    let calls = Counter::default();
    let layer = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(error))
        .layer(RunBoundary::new())
        .map_result(move |result: Result<Response, Infallible>| match result {
            Ok(response) if calls.add() < 2 => Err(BoxError::from(response.status().to_string())),
            Ok(response) => Ok(response),
            Err(never) => match never {},
        });
    service(routes().layer(layer))
}

#[tokio::test]
async fn an_error_after_the_handler_frees_the_key() {
    let service = failing_after();
    for _ in 0..2 {
        assert_eq!(service.send("/pay").await, first(502, ""));
    }
    assert_eq!(service.probe.release.ended.get(), 2);
    assert_eq!(service.send("/pay").await, first(201, "run 3"));
    assert_eq!(service.send("/pay").await, replay(201, "run 3"));
}

#[tokio::test]
async fn an_unknown_outcome_outlives_an_error() {
    let service = failing_after();
    let send = async || service.ask("/answer").body("504 unknown").send(&service.router).await;
    for _ in 0..2 {
        assert_eq!(send().await.status, 502);
    }
    assert_eq!(Seen::from(send().await), unknown());
    assert_eq!(service.app.runs.count(), 1);
}

/// The clock is virtual: it advances when the handler is at the gate and everything waits.
#[tokio::test(start_paused = true)]
async fn a_handler_that_a_layer_drops_has_an_unknown_outcome() {
    // One timeout answers, the other returns an error.
    let as_response = routes().layer(timeout()).layer(RunBoundary::new());
    let as_error = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(error))
        .layer(RunBoundary::new())
        .timeout(LIMIT);
    for (routes, status) in [(as_response, 504), (routes().layer(as_error), 502)] {
        let service = service(routes);
        assert_eq!(service.send("/held").await, first(status, ""));
        assert_eq!(service.send("/held").await, unknown());
        assert_eq!(service.app.gate.arrived.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn outside_of_the_boundary_a_timeout_drops_nothing() {
    let service = service(routes().layer(RunBoundary::new()).layer(timeout()));
    assert_eq!(service.send("/held").await, first(504, ""));
    service.app.gate.open(1);
    service.idempotency.drain().await;
    assert_eq!(service.send("/held").await, replay(201, "run 1"));
}

#[tokio::test(start_paused = true)]
async fn a_response_may_say_what_became_of_a_dropped_handler() {
    let retryable = map_response(async |response: Response| match response.status() {
        StatusCode::GATEWAY_TIMEOUT => (Outcome::Retryable, response).into_response(),
        _ => response,
    });
    let service = service(routes().layer(timeout()).layer(retryable).layer(RunBoundary::new()));
    assert_eq!(service.send("/held").await, first(504, ""));
    service.app.gate.open(1);
    // The dropped run did not take its pass.
    assert_eq!(service.send("/held").await, first(201, "run 1"));
    assert_eq!(service.send("/held").await, replay(201, "run 1"));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_dropped_before_it_has_its_claim_has_done_nothing() {
    let service = service(routes().layer(timeout()).layer(RunBoundary::new()));
    let claim = service.probe.claim.hold();
    assert_eq!(service.send("/pay").await, first(504, ""));
    claim.open_for_good();
    service.idempotency.drain().await;
    assert_eq!(service.send("/pay").await, first(201, "run 1"));
    assert_eq!(service.send("/pay").await, replay(201, "run 1"));
}

#[idempotent(replay = "all")]
async fn panics(State(app): State<App>) -> String {
    let run = app.runs.next();
    assert!(app.runs.count() > 1, "the first run panics");
    run
}

fn panicking() -> Router<App> {
    Router::new().route("/", route(panics))
}

async fn panic_once(State(calls): State<Counter>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    assert!(calls.add() > 0, "the first response panics");
    response
}

/// The first caller of `path` panics; the next request runs, and is stored.
async fn assert_panics_and_frees_the_key(service: &Service, path: &'static str) {
    let caller = service.ask(path).spawn(&service.router).await;
    assert!(caller.expect_err("a panic").is_panic());
    let Seen(_, text, is_replay) = service.send(path).await;
    assert_eq!((text.as_str(), is_replay), ("run 2", false));
    let Seen(_, text, is_replay) = service.send(path).await;
    assert_eq!((text.as_str(), is_replay), ("run 2", true));
}

#[tokio::test]
async fn a_panic_of_the_handler_reaches_the_caller_and_frees_the_key() {
    let service = service(panicking().layer(RunBoundary::new()));
    assert_panics_and_frees_the_key(&service, "/").await;
}

#[tokio::test]
async fn a_panic_of_a_layer_reaches_the_caller_and_frees_the_key() {
    let layer = from_fn_with_state(Counter::default(), panic_once);
    let service = service(routes().layer(layer).layer(RunBoundary::new()));
    assert_panics_and_frees_the_key(&service, "/pay").await;
}

#[tokio::test]
async fn a_panic_that_a_layer_answers_for_frees_the_key() {
    // Every status is stored, even 500; a panic is not a status.
    let inside = panicking().layer(CatchPanicLayer::new()).layer(RunBoundary::new());
    let outside = panicking().layer(RunBoundary::new()).layer(CatchPanicLayer::new());
    for routes in [inside, outside] {
        let service = service(routes);
        assert_eq!(service.send("/").await, first(500, "Service panicked"));
        assert_eq!(service.send("/").await, first(200, "run 2"));
        assert_eq!(service.send("/").await, replay(200, "run 2"));
    }
}

#[tokio::test]
async fn a_panic_that_a_layer_answers_for_with_a_word_is_kept_as_it_says() {
    let unknown_panic = CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
        (StatusCode::INTERNAL_SERVER_ERROR, Outcome::Unknown, ()).into_response()
    });
    let service = service(panicking().layer(unknown_panic).layer(RunBoundary::new()));
    assert_eq!(service.send("/").await, first(500, ""));
    assert_eq!(service.send("/").await, unknown());
}

#[tokio::test]
async fn an_unknown_outcome_outlives_a_panic() {
    let layer = from_fn_with_state(Counter::default(), panic_once);
    let service = service(routes().layer(layer).layer(RunBoundary::new()));
    let ask = || service.ask("/answer").body("504 unknown");
    assert!(ask().spawn(&service.router).await.expect_err("a panic").is_panic());
    assert_eq!(Seen::from(ask().send(&service.router).await), unknown());
}

#[tokio::test]
async fn a_panic_that_drops_the_handler_leaves_its_outcome_unknown() {
    async fn give_up(State(gate): State<Gate>, request: Request, next: Next) -> Response {
        if gate.arrived.get() > 0 {
            return next.run(request).await;
        }
        tokio::select! {
            response = next.run(request) => response,
            () = gate.arrived.reaches(1) => panic!("the layer panics while the handler waits"),
        }
    }

    let gate = Gate::default();
    let routes =
        routes().layer(from_fn_with_state(gate.clone(), give_up)).layer(RunBoundary::new());
    let service = service_of(App { gate, ..App::default() }, MemoryStore::new(), routes);
    let caller = service.ask("/held").spawn(&service.router).await;
    assert!(caller.expect_err("a panic").is_panic());
    assert_eq!(service.send("/held").await, unknown());
}

/// Answers the first request before its handler is done; the handler continues in its own task.
async fn answer_early(status: StatusCode, gate: Gate, request: Request, next: Next) -> Response {
    if gate.arrived.get() > 0 {
        return next.run(request).await;
    }
    let _handler = tokio::spawn(next.run(request));
    gate.arrived.reaches(1).await;
    (status, "accepted").into_response()
}

fn answering_early(status: StatusCode) -> Service {
    let app = App::default();
    let gate = app.gate.clone();
    let layer = from_fn(move |request, next| answer_early(status, gate.clone(), request, next));
    service_of(app, MemoryStore::new(), routes().layer(layer).layer(RunBoundary::new()))
}

#[tokio::test]
async fn a_layer_that_answers_before_the_handler_has_ended_is_taken_at_its_word() {
    let service = answering_early(StatusCode::ACCEPTED);
    assert_eq!(service.send("/held").await, first(202, "accepted"));
    assert_eq!(service.send("/held").await, replay(202, "accepted"));
    service.app.gate.open(1);
    assert_eq!(service.app.gate.arrived.get(), 1);
}

#[tokio::test]
async fn no_key_is_freed_beside_its_handler() {
    let service = answering_early(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(service.send("/held").await, first(503, "accepted"));
    assert_eq!(service.send("/held").await, unknown());
    assert_eq!(service.app.gate.arrived.get(), 1);
}
