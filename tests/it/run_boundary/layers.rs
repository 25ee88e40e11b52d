//! The usual layers, in both places: what the guide page says about each.

use std::pin::pin;

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Request, State, WebSocketUpgrade},
    http::{HeaderMap, Method, header},
    middleware::{Next, from_fn},
    response::{IntoResponse as _, Response},
    routing::{any, post as route},
};
use http_body_util::BodyExt as _;
use idempotent_axum::{RunBoundary, idempotent};
use idempotent_test_support::{Answer, Server, frames, fresh_key, is_pending, post};
use tokio::task::yield_now;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_http::{
    compression::CompressionLayer,
    cors::{AllowOrigin, CorsLayer},
    limit::RequestBodyLimitLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
};

use super::{App, Service, first, replay, routes, service};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Inside,
    Outside,
}

use Place::{Inside, Outside};

/// `layer` on one side of the boundary.
macro_rules! put {
    ($layer:expr, $place:expr, $routes:expr) => {
        match $place {
            Inside => $routes.layer($layer).layer(RunBoundary::new()),
            Outside => $routes.layer(RunBoundary::new()).layer($layer),
        }
    };
}

/// At most two runs, each with its own permit.
#[tokio::test]
async fn a_permit_is_held_to_the_end_of_the_run_inside_alone() {
    const CALLERS: usize = 20;
    let limited = |place| service(put!(GlobalConcurrencyLimitLayer::new(2), place, routes()));

    let service = limited(Outside);
    for caller in 0..CALLERS {
        let call = post("/held").key(fresh_key()).spawn(&service.router);
        service.app.gate.arrived.reaches(caller + 1).await;
        call.abort();
        assert!(call.await.is_err());
    }
    service.app.gate.open(CALLERS);
    service.idempotency.drain().await;
    assert_eq!(service.app.runs.count(), CALLERS, "all at once");

    let service = limited(Inside);
    for caller in 0..2 {
        let call = post("/held").key(fresh_key()).spawn(&service.router);
        service.app.gate.arrived.reaches(caller + 1).await;
        call.abort();
        assert!(call.await.is_err());
    }
    let mut third = pin!(service.ask("/held").send(&service.router));
    for _ in 0..100 {
        assert!(is_pending(third.as_mut()).await, "both permits are taken");
        yield_now().await;
    }
    assert_eq!(service.app.gate.arrived.get(), 2);
    service.app.gate.open(3);
    assert_eq!(third.await.status, 201);
}

#[tokio::test]
async fn a_waiting_duplicate_holds_its_permit_in_either_place() {
    for place in [Inside, Outside] {
        let service = service(put!(GlobalConcurrencyLimitLayer::new(2), place, routes()));
        let held = service.ask("/held").spawn(&service.router);
        service.app.gate.arrived.reaches(1).await;
        let duplicate = service.ask("/held").spawn(&service.router);
        service.probe.wait.begun.reaches(1).await;
        let mut other = pin!(post("/pay").key(fresh_key()).send(&service.router));
        for _ in 0..100 {
            assert!(is_pending(other.as_mut()).await, "both permits are taken");
            yield_now().await;
        }
        service.app.gate.open(1);
        assert_eq!(held.await.unwrap().status, 201);
        assert!(duplicate.await.unwrap().is_replay());
        assert_eq!(other.await.status, 201);
    }
}

tokio::task_local! {
    static TENANT: &'static str;
}

#[idempotent]
async fn local(State(app): State<App>, _body: String) -> String {
    let run = app.runs.next();
    app.gate.pass().await;
    format!("{run} for {}", TENANT.get())
}

async fn with_tenant(request: Request, next: Next) -> Response {
    TENANT.scope("acme", next.run(request)).await
}

#[tokio::test]
async fn task_locals_follow_the_run_inside_alone() {
    let app = |place| {
        let routes = Router::new().route("/local", route(local));
        service(put!(from_fn(with_tenant), place, routes))
    };
    let leave = async |service: &Service| {
        let caller = service.ask("/local").spawn(&service.router);
        service.app.gate.arrived.reaches(1).await;
        caller.abort();
        assert!(caller.await.is_err());
        service.app.gate.open(2);
        service.idempotency.drain().await;
    };
    let inside = app(Inside);
    leave(&inside).await;
    assert_eq!(inside.send("/local").await, replay(200, "run 1 for acme"));
    // Outside, the first run panics in the middle: its effect is there, and its key is free.
    let outside = app(Outside);
    leave(&outside).await;
    assert_eq!(outside.send("/local").await, first(200, "run 2 for acme"));
}

/// Long enough to be compressed.
#[idempotent]
async fn long(State(app): State<App>) -> String {
    app.runs.next().repeat(100)
}

#[tokio::test]
async fn compression_belongs_outside() {
    let app = |place| {
        let routes = Router::new().route("/long", route(long));
        service(put!(CompressionLayer::new(), place, routes))
    };
    let encodings = async |place| {
        let service = app(place);
        let mut seen = Vec::new();
        for accepted in ["gzip", "identity"] {
            let ask = service.ask("/long").header("accept-encoding", accepted);
            let answer = ask.send(&service.router).await;
            seen.push(answer.header("content-encoding").unwrap_or("none").to_owned());
        }
        seen
    };
    assert_eq!(encodings(Outside).await, ["gzip", "none"]);
    // Inside, the second client gets what it cannot read.
    assert_eq!(encodings(Inside).await, ["gzip", "gzip"]);
}

#[tokio::test]
async fn cross_origin_headers_belong_outside() {
    let cors = || CorsLayer::new().allow_origin(AllowOrigin::mirror_request());
    let origins = async |place| {
        let service = service(put!(cors(), place, routes()));
        let mut seen = Vec::new();
        for origin in ["https://one.example", "https://two.example"] {
            let answer = service.ask("/pay").header("origin", origin).send(&service.router).await;
            let allowed = answer.header(header::ACCESS_CONTROL_ALLOW_ORIGIN);
            seen.push(allowed.expect("an origin").to_owned());
        }
        seen
    };
    assert_eq!(origins(Outside).await, ["https://one.example", "https://two.example"]);
    // Inside, the second page may not read its response.
    assert_eq!(origins(Inside).await, ["https://one.example", "https://one.example"]);
}

#[tokio::test]
async fn a_request_id_is_its_own_in_either_place() {
    for place in [Inside, Outside] {
        // Set outside, as always.
        let propagated = put!(PropagateRequestIdLayer::x_request_id(), place, routes());
        let service = service(propagated.layer(SetRequestIdLayer::x_request_id(MakeRequestUuid)));
        let mut ids = Vec::new();
        for is_replay in [false, true] {
            let answer = service.ask("/pay").send(&service.router).await;
            assert_eq!(answer.is_replay(), is_replay);
            ids.push(answer.header("x-request-id").expect("one id").to_owned());
        }
        assert_ne!(ids[0], ids[1], "{place:?}");
    }
}

#[tokio::test]
async fn a_body_limit_refuses_in_either_place() {
    for place in [Inside, Outside] {
        let service = service(put!(RequestBodyLimitLayer::new(4), place, routes()));
        let send = async |body: Body| service.ask("/pay").body(body).send(&service.router).await;
        // Of known and of unknown length.
        let long = send("12345".into()).await;
        assert_eq!(long.status, 413);
        let (sender, body) = frames();
        sender.data("12345");
        drop(sender);
        assert_eq!(send(body).await.status, 413);
        // Neither has claimed the key.
        assert_eq!(send("1234".into()).await.text(), "run 1");
        assert!(send("1234".into()).await.is_replay());
    }
    let limited = routes().layer(DefaultBodyLimit::max(4)).layer(RunBoundary::new());
    let service = service(limited);
    assert_eq!(service.ask("/pay").body("12345").send(&service.router).await.status, 413);
    assert_eq!(service.ask("/pay").body("1234").send(&service.router).await.status, 201);
}

#[idempotent]
async fn events(State(app): State<App>) -> Response {
    let (sender, body) = frames();
    sender.data(format!("data: {}\n\n", app.runs.next()));
    // It continues for as long as somebody reads it.
    tokio::spawn(async move { sender.closed().await });
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

#[tokio::test]
async fn an_event_stream_passes_the_boundary_at_once_and_frees_its_key() {
    let service = service(Router::new().route("/events", route(events)).layer(RunBoundary::new()));
    for run in ["data: run 1\n\n", "data: run 2\n\n"] {
        let mut response = service.ask("/events").begin(&service.router).await;
        let frame = response.body_mut().frame().await.expect("a frame").expect("no error");
        assert_eq!(frame.into_data().expect("data"), run);
    }
}

#[idempotent(replay = "all")]
async fn socket(State(app): State<App>, upgrade: WebSocketUpgrade) -> Response {
    let run = app.runs.next();
    upgrade.on_upgrade(async |mut socket| {
        socket.send(run.into()).await.expect("the client is there");
        while socket.recv().await.is_some() {}
    })
}

#[tokio::test]
async fn a_websocket_passes_the_boundary_and_frees_its_key() {
    let service = service(Router::new().route("/socket", any(socket)).layer(RunBoundary::new()));
    let server = Server::start(service.router.clone()).await;
    let mut sockets = Vec::new();
    for run in ["run 1", "run 2"] {
        let mut socket = server.connect().await;
        let upgrade = format!(
            "GET /socket HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             idempotency-key: {}\r\n\r\n",
            service.key
        );
        socket.send(upgrade).await;
        assert!(socket.read_until("\r\n\r\n").await.starts_with(b"HTTP/1.1 101 "));
        socket.read_until(run).await;
        sockets.push(socket);
    }
}

/// What a boundary leaves unchanged: the request.
#[idempotent]
async fn echo(headers: HeaderMap, method: Method, body: String) -> String {
    format!("{method} {} {body}", headers.len())
}

#[tokio::test]
async fn the_request_passes_the_boundary_as_it_is() {
    let plain = service(Router::new().route("/echo", any(echo)));
    let bounded = service(Router::new().route("/echo", any(echo)).layer(RunBoundary::new()));
    let send = async |service: &Service| -> Answer {
        service.ask("/echo").header("x-other", "1").body("text").send(&service.router).await
    };
    assert_eq!(send(&plain).await.text(), send(&bounded).await.text());
}
