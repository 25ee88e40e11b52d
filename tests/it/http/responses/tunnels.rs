//! Connections that become tunnels: a 2xx to `CONNECT` (RFC 9110, section 9.3.6), which is how a
//! `WebSocket` over HTTP/2 begins (RFC 8441), passes through unstored.

use axum::{
    Router,
    body::Body,
    extract::{State, WebSocketUpgrade},
    http::{Method, Request, StatusCode, Version},
    response::{IntoResponse as _, Response},
    routing::any,
};
use bytes::Bytes;
use h2::ext::Protocol;
use idempotent_axum::{Idempotency, MemoryStore, Outcome, idempotent};
use idempotent_test_support::{Leased, Runs, Server, ask, frames, fresh_key};
use tokio::net::TcpStream;

use super::{app, app_on, capture::read};

async fn connect(app: &Router, path: &str, key: &str) -> Response {
    ask(Method::CONNECT, path).key(key).begin(app).await
}

/// Asserts that the tunnel is open before it ends, and that a retry opens its own.
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
        // There is nothing to store, whatever the handler says.
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

/// Says which run it is, then echoes what it hears.
#[idempotent(replay = "all")]
async fn socket(State(runs): State<Runs>, upgrade: WebSocketUpgrade) -> Response {
    let run = runs.next();
    upgrade.on_upgrade(async |mut socket| {
        socket.send(run.into()).await.expect("the client is there");
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    })
}

/// Reads until `length` bytes have come.
async fn read_stream(stream: &mut h2::RecvStream, length: usize) -> Vec<u8> {
    let mut read = Vec::new();
    while read.len() < length {
        read.extend_from_slice(&stream.data().await.expect("the tunnel is open").expect("data"));
    }
    read
}

#[tokio::test]
async fn a_websocket_over_http_2_is_a_tunnel_for_each_retry() {
    let runs = Runs::default();
    let app = Router::new()
        .route("/socket", any(socket))
        .layer(Idempotency::new(MemoryStore::new()))
        .with_state(runs.clone());
    let server = Server::start(app).await;
    let stream = TcpStream::connect(server.address()).await.expect("the server accepts");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    // An answer comes after the server's settings, which allow the extended CONNECT.
    let plain = Request::get("http://h/nowhere").version(Version::HTTP_2).body(()).unwrap();
    let (answer, _) = client.send_request(plain, true).expect("a request");
    assert_eq!(answer.await.expect("an answer").status(), StatusCode::NOT_FOUND);
    assert!(client.is_extended_connect_protocol_enabled());

    let key = fresh_key();
    let mut tunnels = Vec::new();
    for run in 1..4 {
        let connect = Request::builder()
            .method(Method::CONNECT)
            .version(Version::HTTP_2)
            .uri("http://h/socket")
            .extension(Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .header("idempotency-key", &key)
            .body(())
            .unwrap();
        client = client.ready().await.expect("room for a stream");
        let (answer, sender) = client.send_request(connect, false).expect("a request");
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(!answer.headers().contains_key("idempotent-replayed"));
        let mut receiver = answer.into_body();
        // A frame of text, five bytes long.
        assert_eq!(
            read_stream(&mut receiver, 7).await,
            [b"\x81\x05run ", &[b'0' + run][..]].concat()
        );
        assert_eq!(runs.count(), usize::from(run));
        tunnels.push((sender, receiver));
    }
    // All are alive: what the first one says comes back, masked with zeros on its way there.
    let (sender, receiver) = &mut tunnels[0];
    sender.send_data(Bytes::from_static(b"\x81\x82\0\0\0\0hi"), false).expect("it is open");
    assert_eq!(read_stream(receiver, 4).await, b"\x81\x02hi");
}
