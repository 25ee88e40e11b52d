//! Connections that become tunnels: a 2xx to `CONNECT` (RFC 9110, section 9.3.6), which is how a
//! `WebSocket` over HTTP/2 begins (RFC 8441), passes through unstored.

use axum::{
    Router,
    body::Body,
    http::{Method, StatusCode},
    response::{IntoResponse as _, Response},
};
use idempotent_axum::Outcome;
use idempotent_test_support::{Leased, ask, frames, fresh_key};

use super::{app, app_on, capture::read};

async fn connect(app: &Router, path: &str, key: &str) -> Response {
    ask(Method::CONNECT, path).key(key).begin(app).await
}

/// Asserts that the tunnel is open before it ends, and that a retry opens one of its own.
async fn assert_tunnels(path: &str, respond: impl Fn(Body) -> Response) {
    for is_shared in [false, true] {
        let ((one, first), (two, second)) = (frames(), frames());
        one.data("a");
        two.data("b");
        let responses = [respond(first), respond(second)];
        let (app, script) =
            if is_shared { app_on(Leased::default(), responses) } else { app(responses) };
        let key = fresh_key();
        let mut first = connect(&app, path, &key).await;
        assert_eq!(read(first.body_mut(), 1).await, b"a");
        let mut second = connect(&app, path, &key).await;
        assert_eq!(read(second.body_mut(), 1).await, b"b");
        assert!(!second.headers().contains_key("idempotent-replayed"));
        assert_eq!(script.left(), 0);
    }
}

#[tokio::test]
async fn a_2xx_to_connect_passes_through_unstored() {
    for status in [StatusCode::OK, StatusCode::CREATED] {
        assert_tunnels("/", |body| (status, body).into_response()).await;
        assert_tunnels("/everything", |body| (status, body).into_response()).await;
        // There is nothing to store of it, whatever the handler says.
        assert_tunnels("/", |body| (status, Outcome::Final, body).into_response()).await;
    }
}

#[tokio::test]
async fn a_connect_that_is_refused_is_a_response_like_any_other() {
    let (app, _) = app([(StatusCode::FORBIDDEN, "no").into_response()]);
    let key = fresh_key();
    let send = async || ask(Method::CONNECT, "/everything").key(&key).send(&app).await;
    assert_eq!(send().await.status, StatusCode::FORBIDDEN);
    let replay = send().await;
    assert_eq!((replay.text(), replay.is_replay()), ("no", true));
}
