//! The response that passes the boundary is kept, and the handler's `Outcome` counts if it passes
//! with the handler's status.

use std::convert::Infallible;

use axum::{
    body::{Body, to_bytes},
    extract::{Extension, Request},
    http::{HeaderValue, StatusCode},
    middleware::{Next, from_fn, from_fn_with_state, map_response},
    response::{IntoResponse, Response},
    routing::post as route,
};
use idempotent_axum::{Outcome, RunBoundary, idempotent};
use idempotent_test_support::{Runs, post};

use super::{App, Seen, Service, first, number, replay, routes, service, unknown};

/// A service inside whose boundary a layer changes each response, except for problems.
fn mapping(map: impl Fn(Response) -> Response + Clone + Send + Sync + 'static) -> Service {
    let layer = map_response(move |response: Response| {
        let is_problem = response.status() == StatusCode::CONFLICT;
        let mapped = if is_problem { response } else { map(response) };
        async move { mapped }
    });
    service(routes().layer(layer).layer(RunBoundary::new()))
}

/// Another response with the same status and body, as an error mapper makes it.
fn rebuilt(response: Response) -> Response {
    (response.status(), response.into_body()).into_response()
}

fn with_status(mut response: Response, status: u16) -> Response {
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}

/// Sends `wanted` twice; returns what both answers are.
async fn twice(service: &Service, wanted: &'static str) -> [Seen; 2] {
    let send = async || service.ask("/answer").body(wanted).send(&service.router).await.into();
    [send().await, send().await]
}

#[tokio::test]
async fn the_response_that_passes_the_boundary_is_replayed() {
    let seen = Runs::default();
    let layer = from_fn_with_state(seen.clone(), number);
    let service = service(routes().layer(layer).layer(RunBoundary::new()));
    for is_replay in [false, true] {
        let answer = service.ask("/pay").send(&service.router).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (201, "run 1"));
        assert_eq!(answer.is_replay(), is_replay);
        // The layer has seen the replay, too; what is sent is what it made of the first response.
        assert_eq!(answer.header("x-layer"), Some("run 1"));
    }
    assert_eq!((service.app.runs.count(), seen.count()), (1, 2));
}

#[tokio::test]
async fn without_a_boundary_the_response_of_the_handler_is_replayed() {
    let seen = Runs::default();
    let service = service(routes().layer(from_fn_with_state(seen.clone(), number)));
    for run in ["run 1", "run 2"] {
        let answer = service.ask("/pay").send(&service.router).await;
        assert_eq!((answer.text(), answer.header("x-layer")), ("run 1", Some(run)));
    }
}

/// What an error mapper finds in the response, and writes down.
#[derive(Clone)]
struct PaymentError(&'static str);

async fn write_down(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    match response.extensions().get() {
        Some(PaymentError(why)) => (response.status(), *why).into_response(),
        None => response,
    }
}

#[idempotent(replay = "all")]
async fn declines() -> (StatusCode, Extension<PaymentError>) {
    (StatusCode::PAYMENT_REQUIRED, Extension(PaymentError("declined")))
}

#[tokio::test]
async fn a_mapped_error_is_replayed_with_its_body() {
    let routes =
        || axum::Router::<App>::new().route("/", route(declines)).layer(from_fn(write_down));
    let inside = service(routes().layer(RunBoundary::new()));
    assert_eq!(inside.send("/").await, first(402, "declined"));
    assert_eq!(inside.send("/").await, replay(402, "declined"));
    let outside = service(routes());
    assert_eq!(outside.send("/").await, first(402, "declined"));
    assert_eq!(outside.send("/").await, replay(402, ""), "the replay has no such extension");
}

#[tokio::test]
async fn a_failure_after_the_handler_frees_the_key() {
    let service = mapping(|response| with_status(response, 500));
    assert_eq!(service.send("/pay").await, first(500, "run 1"));
    assert_eq!(service.send("/pay").await, first(500, "run 2"));
}

#[tokio::test]
async fn a_layer_that_mends_a_failure_has_it_stored() {
    let service = mapping(|response| with_status(response, 200));
    assert_eq!(twice(&service, "503").await, [first(200, "run 1"), replay(200, "run 1")]);
}

#[tokio::test]
async fn the_handlers_outcome_counts_where_its_status_passes() {
    for map in [|response| response, rebuilt] {
        let service = mapping(map);
        assert_eq!(twice(&service, "402 final").await, [first(402, "run 1"), replay(402, "run 1")]);
        let service = mapping(map);
        assert_eq!(
            twice(&service, "200 retryable").await,
            [first(200, "run 1"), first(200, "run 2")]
        );
        let service = mapping(map);
        assert_eq!(twice(&service, "200 unknown").await, [first(200, "run 1"), unknown()]);
    }
}

#[tokio::test]
async fn the_handlers_outcome_does_not_count_where_another_status_passes() {
    let service = mapping(|response| with_status(response, 500));
    assert_eq!(twice(&service, "402 final").await, [first(500, "run 1"), first(500, "run 2")]);
    let service = mapping(|response| with_status(response, 202));
    assert_eq!(twice(&service, "200 retryable").await, [first(202, "run 1"), replay(202, "run 1")]);
}

#[tokio::test]
async fn an_unknown_outcome_counts_always() {
    for status in [200, 500] {
        let service = mapping(move |response| with_status(rebuilt(response), status));
        assert_eq!(twice(&service, "504 unknown").await, [first(status, "run 1"), unknown()]);
    }
    // Whatever a layer says.
    let service = mapping(|response| (Outcome::Retryable, response).into_response());
    assert_eq!(twice(&service, "504 unknown").await, [first(504, "run 1"), unknown()]);
}

#[tokio::test]
async fn a_layer_may_say_what_its_response_means() {
    let service = mapping(|response| (Outcome::Retryable, response).into_response());
    assert_eq!(twice(&service, "200").await, [first(200, "run 1"), first(200, "run 2")]);
    let service = mapping(|response| (Outcome::Final, with_status(response, 500)).into_response());
    assert_eq!(twice(&service, "200").await, [first(500, "run 1"), replay(500, "run 1")]);
    // The layer's outcome is the later one.
    let service = mapping(|response| (Outcome::Final, response).into_response());
    assert_eq!(twice(&service, "503 retryable").await, [first(503, "run 1"), replay(503, "run 1")]);
}

#[tokio::test]
async fn a_layer_sees_no_outcome_of_the_handler() {
    let service = mapping(|response| {
        assert_eq!(response.extensions().get::<Outcome>(), None);
        response
    });
    assert_eq!(twice(&service, "402 final").await, [first(402, "run 1"), replay(402, "run 1")]);
}

#[tokio::test]
async fn the_body_is_stored_as_it_passes() {
    async fn shout(response: Response) -> Result<Response, Infallible> {
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 10).await.expect("a short body").to_ascii_uppercase();
        Ok(Response::from_parts(parts, Body::from(body)))
    }

    let service = service(routes().layer(map_response(shout)).layer(RunBoundary::new()));
    assert_eq!(service.send("/pay").await, first(201, "RUN 1"));
    assert_eq!(service.send("/pay").await, replay(201, "RUN 1"));
}

#[tokio::test]
async fn a_first_response_never_carries_the_marker() {
    let service = mapping(|mut response| {
        let marker = HeaderValue::from_static("true");
        response.headers_mut().insert("idempotent-replayed", marker);
        response
    });
    assert_eq!(service.send("/pay").await, first(201, "run 1"));
    assert_eq!(service.send("/pay").await, replay(201, "run 1"));
}

#[tokio::test]
async fn a_request_without_a_key_passes_untouched() {
    let service = mapping(|response| with_status(response, 500));
    for run in ["run 1", "run 2"] {
        let answer = post("/pay").send(&service.router).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (500, run));
    }
    assert_eq!(service.probe.claim.begun.get(), 0);
}
