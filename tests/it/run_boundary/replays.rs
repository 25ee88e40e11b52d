//! Replays inside a boundary: its layers see a copy, and what they make of it is dropped, except for
//! what belongs to the request.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::post as route,
};
use idempotent_axum::{RunBoundary, idempotent};
use idempotent_test_support::{Answer, Leased, Runs};
use tower::{BoxError, ServiceBuilder};

use super::{App, Service, first, replay, routes, service, service_on};

/// What belongs to one request, and is never stored.
const OF_THE_REQUEST: [&str; 6] =
    ["set-cookie", "date", "server-timing", "traceparent", "tracestate", "x-request-id"];

/// Gives each response its own headers.
async fn sign(State(seen): State<Runs>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let value = HeaderValue::try_from(seen.next()).expect("a header value");
    for name in OF_THE_REQUEST {
        response.headers_mut().append(name, value.clone());
    }
    response.headers_mut().append(header::SET_COOKIE, HeaderValue::from_static("second=1"));
    response.headers_mut().insert("x-layer", value);
    response
}

fn lines(answer: &Answer, name: &str) -> Vec<String> {
    let lines = answer.headers.get_all(name.parse::<HeaderName>().expect("a name")).iter();
    lines.map(|line| line.to_str().expect("ASCII").to_owned()).collect()
}

/// Asserts that the second of two equal requests gets the first one's response, with the headers of
/// its own request.
async fn assert_replays_with_its_own_headers<S>(service: &Service<S>, path: &str) {
    for (number, is_replay) in [("run 1", false), ("run 2", true)] {
        let answer = service.ask(path).send(&service.router).await;
        assert_eq!((answer.text(), answer.is_replay()), ("run 1", is_replay));
        assert_eq!(lines(&answer, "x-layer"), ["run 1"]);
        assert_eq!(lines(&answer, "set-cookie"), [number, "second=1"]);
        for name in &OF_THE_REQUEST[1..] {
            assert_eq!(lines(&answer, name), [number], "{name}");
        }
    }
}

/// Its last parameter is extracted before each replay.
#[idempotent]
async fn extracts(State(app): State<App>, _request: Request) -> String {
    app.runs.next()
}

fn signed() -> Router<App> {
    let routes = routes().route("/extracts", route(extracts));
    routes.layer(from_fn_with_state(Runs::default(), sign)).layer(RunBoundary::new())
}

#[tokio::test]
async fn a_replay_keeps_the_headers_that_belong_to_its_request() {
    // Without extraction, after it, and from a store that is asked.
    assert_replays_with_its_own_headers(&service(signed()), "/pay").await;
    assert_replays_with_its_own_headers(&service(signed()), "/extracts").await;
    assert_replays_with_its_own_headers(&service_on(Leased::default(), signed()), "/pay").await;
}

/// Status, marker and text of the responses that a layer sees.
type Looks = Arc<Mutex<Vec<(StatusCode, bool, String)>>>;

#[tokio::test]
async fn layers_see_a_copy_of_the_record() {
    async fn look(State(seen): State<Looks>, request: Request, next: Next) -> Response {
        let (parts, body) = next.run(request).await.into_parts();
        let body = to_bytes(body, 1 << 10).await.expect("a short body");
        let text = String::from_utf8(body.to_vec()).expect("text");
        let is_replay = parts.headers.contains_key("idempotent-replayed");
        seen.lock().expect("no panic").push((parts.status, is_replay, text));
        Response::from_parts(parts, Body::from(body))
    }

    let seen = Looks::default();
    let layer = from_fn_with_state(Arc::clone(&seen), look);
    let service = service(routes().layer(layer).layer(RunBoundary::new()));
    for _ in 0..2 {
        service.send("/pay").await;
    }
    let run = |is_replay| (StatusCode::CREATED, is_replay, "run 1".to_owned());
    assert_eq!(*seen.lock().unwrap(), [run(false), run(true)]);
}

/// What a layer makes of the second response.
#[derive(Clone, Copy)]
enum Makes {
    Another,
    Panic,
}

async fn make_of_the_second(
    State((seen, makes)): State<(Runs, Makes)>,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    match (seen.next().as_str(), makes) {
        ("run 2", Makes::Another) => (StatusCode::BAD_GATEWAY, "another").into_response(),
        ("run 2", Makes::Panic) => panic!("the layer panics on a replay"),
        _ => response,
    }
}

#[tokio::test]
async fn what_layers_make_of_a_replay_is_dropped() {
    for makes in [Makes::Another, Makes::Panic] {
        let layer = from_fn_with_state((Runs::default(), makes), make_of_the_second);
        let service = service(routes().layer(layer).layer(RunBoundary::new()));
        assert_eq!(service.send("/pay").await, first(201, "run 1"));
        for _ in 0..2 {
            assert_eq!(service.send("/pay").await, replay(201, "run 1"));
        }
        assert_eq!(service.app.runs.count(), 1);
    }
}

#[tokio::test]
async fn an_error_on_a_replay_is_dropped() {
    let seen = Runs::default();
    let layer = ServiceBuilder::new()
        .layer(axum::error_handling::HandleErrorLayer::new(async |_: BoxError| {
            StatusCode::BAD_GATEWAY
        }))
        .layer(RunBoundary::new())
        .map_result(move |result: Result<Response, std::convert::Infallible>| {
            match (result, seen.next().as_str()) {
                (Ok(_), "run 2") => Err(BoxError::from("on a replay")),
                (Ok(response), _) => Ok(response),
                (Err(never), _) => match never {},
            }
        });
    let service = service(routes().layer(layer));
    assert_eq!(service.send("/pay").await, first(201, "run 1"));
    assert_eq!(service.send("/pay").await, replay(201, "run 1"));
}

/// Two runs of one key, the first of which has lost its claim; what its caller gets.
async fn loser(is_stored: bool) -> (Service<Leased>, Answer) {
    let layer = from_fn_with_state(Runs::default(), sign);
    let service = service_on(Leased::default(), routes().layer(layer).layer(RunBoundary::new()));
    let loser = service.ask("/held").spawn(&service.router);
    service.app.gate.arrived.reaches(1).await;
    service.probe.store.lapse();
    let winner = service.ask("/held").spawn(&service.router);
    service.app.gate.arrived.reaches(2).await;
    if is_stored {
        // Both pass at once; whichever is first, the second one's claim is the one that holds.
        service.app.gate.open(2);
        assert!(!winner.await.unwrap().is_replay());
    } else {
        winner.abort();
        assert!(winner.await.is_err());
        service.probe.store.lapse();
        service.app.gate.open(2);
    }
    (service, loser.await.unwrap())
}

#[tokio::test]
async fn a_replay_after_a_lost_claim_keeps_the_headers_of_its_own_run() {
    let (service, answer) = loser(true).await;
    assert!(answer.is_replay());
    let stored = service.ask("/held").send(&service.router).await;
    assert_eq!(answer.text(), stored.text());
    assert_eq!(lines(&answer, "x-layer"), lines(&stored, "x-layer"));
    // The cookies are not those of the run whose response it is.
    let [own, second] = &lines(&answer, "set-cookie")[..] else { panic!("two cookies") };
    assert_ne!(*own, lines(&answer, "x-layer")[0]);
    assert_eq!(second, "second=1");
}

#[tokio::test]
async fn a_lost_claim_on_a_free_key_stores_its_own_response() {
    let (service, answer) = loser(false).await;
    assert!(!answer.is_replay());
    let stored = service.ask("/held").send(&service.router).await;
    assert_eq!((answer.text(), stored.is_replay()), (stored.text(), true));
}

#[tokio::test]
async fn a_refusal_passes_the_layers_as_without_the_boundary() {
    let service = service(signed());
    assert_eq!(service.send("/pay").await, first(201, "run 1"));
    let other = service.ask("/pay").body("another request").send(&service.router).await;
    assert_eq!(other.problem(), (422, "key_reused".to_owned()));
    assert_eq!(lines(&other, "x-layer"), ["run 2"]);
}
