//! A layer inside a boundary that tries the handler again: the retry runs under the same claim.

use std::time::Duration;

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderValue, StatusCode, request::Parts},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::post as route,
};
use idempotent_axum::{RunBoundary, idempotent};
use idempotent_test_support::{Counter, Fault, Runs, fresh_key, post};
use tower_http::timeout::TimeoutLayer;

use super::{App, Seen, Service, first, number, replay, routes, service, unknown};

/// Fails in the first two runs.
#[idempotent]
async fn flaky(State(app): State<App>, _body: String) -> (StatusCode, String) {
    let run = app.runs.next();
    let is_well = app.runs.count() > 2;
    (if is_well { StatusCode::CREATED } else { StatusCode::SERVICE_UNAVAILABLE }, run)
}

/// The parts of a request that can be sent several times.
async fn buffered(request: Request) -> (Parts, Bytes) {
    let (parts, body) = request.into_parts();
    (parts, to_bytes(body, 1 << 10).await.expect("a short body"))
}

/// Tries until the response is not 503, at most three times.
async fn retry(request: Request, next: Next) -> Response {
    let (parts, body) = buffered(request).await;
    let send = || next.clone().run(Request::from_parts(parts.clone(), Body::from(body.clone())));
    for _ in 0..2 {
        let response = send().await;
        if response.status() != StatusCode::SERVICE_UNAVAILABLE {
            return response;
        }
    }
    send().await
}

fn flaky_routes() -> Router<App> {
    routes().route("/flaky", route(flaky))
}

#[tokio::test]
async fn a_retry_runs_under_the_claim_that_there_is() {
    let service = service(flaky_routes().layer(from_fn(retry)).layer(RunBoundary::new()));
    assert_eq!(service.send("/flaky").await, first(201, "run 3"));
    assert_eq!(service.send("/flaky").await, replay(201, "run 3"));
    // One of the first request, one of the replay.
    assert_eq!(service.probe.claim.begun.get(), 2);
    assert_eq!((service.probe.complete.begun.get(), service.probe.release.begun.get()), (1, 0));
}

#[tokio::test]
async fn without_a_boundary_each_try_has_a_claim_of_its_own() {
    let service = service(flaky_routes().layer(from_fn(retry)));
    assert_eq!(service.send("/flaky").await, first(201, "run 3"));
    assert_eq!(service.send("/flaky").await, replay(201, "run 3"));
    assert_eq!((service.probe.claim.begun.get(), service.probe.release.begun.get()), (4, 2));
}

#[tokio::test]
async fn what_the_last_try_says_counts() {
    async fn twice(request: Request, next: Next) -> Response {
        let (mut parts, body) = buffered(request).await;
        next.clone().run(Request::from_parts(parts.clone(), Body::from(body.clone()))).await;
        parts.headers.insert("x-try", HeaderValue::from_static("2"));
        next.run(Request::from_parts(parts, body.into())).await
    }

    for (wanted, second) in [("200", replay(200, "run 2")), ("200 unknown", unknown())] {
        let service = service(routes().layer(from_fn(twice)).layer(RunBoundary::new()));
        let send = async || -> Seen {
            service.ask("/answer").body(wanted).send(&service.router).await.into()
        };
        assert_eq!(send().await, first(200, "run 2"));
        assert_eq!(send().await, second);
    }
}

/// The clock is virtual: it advances when the handler is at the gate and everything waits.
#[tokio::test(start_paused = true)]
async fn a_retry_makes_good_what_a_timeout_has_cut_short() {
    let timeout =
        TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(1));
    let service = service(routes().layer(timeout).layer(from_fn(retry)).layer(RunBoundary::new()));
    let caller = service.ask("/held").spawn(&service.router);
    service.app.gate.arrived.reaches(2).await;
    service.app.gate.open(1);
    assert_eq!(Seen::from(caller.await.unwrap()), first(201, "run 1"));
    assert_eq!(service.send("/held").await, replay(201, "run 1"));

    // If no try finishes, the last one's outcome is unknown.
    let other = Service { key: fresh_key(), ..service };
    assert_eq!(other.send("/held").await, first(503, ""));
    assert_eq!(other.send("/held").await, unknown());
}

#[tokio::test(start_paused = true)]
async fn a_try_that_does_not_reach_the_handler_leaves_the_outcome_of_the_last_one() {
    async fn once(State(calls): State<Counter>, request: Request, next: Next) -> Response {
        if calls.add() > 0 {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        next.run(request).await
    }

    let timeout =
        TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(1));
    let service = service(
        routes()
            .layer(timeout)
            .layer(from_fn_with_state(Counter::default(), once))
            .layer(from_fn(retry))
            .layer(RunBoundary::new()),
    );
    assert_eq!(service.send("/held").await, first(503, ""));
    assert_eq!(service.probe.claim.begun.get(), 1);
    let claims = service.probe.claims();
    assert_eq!(claims.len(), 1);
    assert_eq!(service.app.gate.arrived.get(), 1);
}

#[tokio::test]
async fn a_try_that_was_refused_leaves_its_place_to_the_next() {
    let seen = Runs::default();
    let service = service(
        routes()
            .layer(from_fn(retry))
            .layer(from_fn_with_state(seen, number))
            .layer(RunBoundary::new()),
    );
    // The engine itself asks twice.
    service.probe.claim.next([Fault::NotSent, Fault::NotSent]);
    for is_replay in [false, true] {
        let answer = service.ask("/pay").send(&service.router).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (201, "run 1"));
        assert_eq!((answer.header("x-layer"), answer.is_replay()), (Some("run 1"), is_replay));
    }
}

#[tokio::test]
async fn two_tries_at_once_are_one_run() {
    async fn hedge(request: Request, next: Next) -> Response {
        let (parts, body) = buffered(request).await;
        let send =
            || next.clone().run(Request::from_parts(parts.clone(), Body::from(body.clone())));
        tokio::select! {
            biased;
            response = send() => response,
            response = send() => response,
        }
    }

    let service = service(routes().layer(from_fn(hedge)).layer(RunBoundary::new()));
    let caller = service.ask("/held").spawn(&service.router);
    // The second try is a duplicate, and waits for the first.
    service.probe.wait.begun.reaches(1).await;
    service.app.gate.open(2);
    assert_eq!(Seen::from(caller.await.unwrap()), first(201, "run 1"));
    assert_eq!(service.send("/held").await, replay(201, "run 1"));
    assert_eq!(service.app.gate.arrived.get(), 1);
}

#[tokio::test]
async fn another_key_inside_a_boundary_settles_by_itself() {
    /// Sends the request once for each key in its header `x-keys`; answers with the last response.
    async fn fan_out(request: Request, next: Next) -> Response {
        let (parts, body) = buffered(request).await;
        let mut response = StatusCode::NO_CONTENT.into_response();
        for key in parts.headers["x-keys"].to_str().expect("ASCII").split(' ') {
            let mut parts = parts.clone();
            let key = HeaderValue::try_from(key).expect("a header value");
            parts.headers.insert("idempotency-key", key);
            response = next.clone().run(Request::from_parts(parts, body.clone().into())).await;
        }
        response
    }

    let service = service(routes().layer(from_fn(fan_out)).layer(RunBoundary::new()));
    let keys = [fresh_key(), fresh_key(), fresh_key()];
    let send = async |keys: &[String]| -> Seen {
        post("/pay").header("x-keys", keys.join(" ")).send(&service.router).await.into()
    };
    assert_eq!(send(&keys).await, first(201, "run 3"));
    assert_eq!(service.app.runs.count(), 3);
    // The first is the boundary's: what has passed is stored under it. The others have their own.
    assert_eq!(send(&keys[..1]).await, replay(201, "run 3"));
    assert_eq!(send(&keys[1..2]).await, replay(201, "run 2"));
    assert_eq!(send(&keys[2..]).await, replay(201, "run 3"));
}

#[tokio::test]
async fn a_retry_without_a_key_runs_as_without_a_boundary() {
    let service = service(flaky_routes().layer(from_fn(retry)).layer(RunBoundary::new()));
    let answer = post("/flaky").send(&service.router).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (201, "run 3"));
    assert_eq!(service.probe.claim.begun.get(), 0);
}
