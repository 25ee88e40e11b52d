//! Helpers of the tests: requests to a router in this process ([`post`]), and a real server with a
//! raw TCP client ([`Server`]) for what only the wire shows.

mod frames;
mod gate;
mod stores;

pub use frames::{FrameSender, frames};
pub use gate::Gate;
pub use stores::{FailingStore, Recorder};

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header::AsHeaderName,
        request,
    },
    response::Response,
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tower::ServiceExt as _;

/// Only a bug keeps a test waiting for so long.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A fresh UUID key.
#[must_use]
pub fn fresh_key() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Counts a handler's runs.
#[derive(Debug, Clone, Default)]
pub struct Runs(Arc<AtomicUsize>);

impl Runs {
    /// Counts one run, and gives a body that no other run gives.
    #[must_use]
    pub fn next(&self) -> String {
        format!("run {}", self.0.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// How many runs there were.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A request to be sent to a router.
#[derive(Debug)]
pub struct Ask {
    request: request::Builder,
    body: Body,
}

/// A `POST` request without a body.
#[must_use]
pub fn post(uri: &str) -> Ask {
    ask(Method::POST, uri)
}

/// A request without a body.
#[must_use]
pub fn ask(method: Method, uri: &str) -> Ask {
    Ask { request: Request::builder().method(method).uri(uri), body: Body::empty() }
}

impl Ask {
    /// Adds an `Idempotency-Key` line.
    #[must_use]
    pub fn key(self, key: impl AsRef<[u8]>) -> Self {
        self.header("idempotency-key", key)
    }

    /// Adds a header line; its value may hold bytes that are no text.
    ///
    /// # Panics
    ///
    /// Where it is no header line.
    #[must_use]
    pub fn header(self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        let value = HeaderValue::from_bytes(value.as_ref()).expect("a header value");
        let Self { request, body } = self;
        Self { request: request.header(HeaderName::from_static(name), value), body }
    }

    /// Replaces the body.
    #[must_use]
    pub fn body(self, body: impl Into<Body>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// The body as JSON, and its content type.
    #[must_use]
    pub fn json(self, body: &str) -> Self {
        self.header("content-type", "application/json").body(body.to_owned())
    }

    /// Sends the request, and gives the response before its body was read.
    ///
    /// # Panics
    ///
    /// Where the URI is none, or no answer comes.
    pub async fn begin(self, app: &Router) -> Response {
        let request = self.request.body(self.body).expect("a valid request");
        let response = tokio::time::timeout(PATIENCE, app.clone().oneshot(request)).await;
        let response: Result<Response, Infallible> = response.expect("an answer begins");
        response.unwrap_or_else(|never| match never {})
    }

    /// Sends the request and reads the response to its end.
    ///
    /// # Panics
    ///
    /// Where the response's body fails, or does not end.
    pub async fn send(self, app: &Router) -> Answer {
        let (parts, body) = self.begin(app).await.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect()).await;
        let body = body.expect("the body ends").expect("the body does not fail").to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }
}

/// A whole response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    ///
    /// # Panics
    ///
    /// Where it is none.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// Where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// The value of the only line of this header; `None` where there is none.
    ///
    /// # Panics
    ///
    /// Where there are several lines, or bytes that are no text.
    pub fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        let mut lines = self.headers.get_all(name).iter();
        let value = lines.next()?.to_str().expect("a header value in ASCII");
        assert_eq!(lines.next(), None, "one line");
        Some(value)
    }

    /// Whether the response says that it is a replay.
    #[must_use]
    pub fn is_replay(&self) -> bool {
        self.header("idempotent-replayed").is_some_and(|value| value == "true")
    }

    /// Status and `code` of a problem document.
    ///
    /// # Panics
    ///
    /// Where the body is none.
    #[must_use]
    pub fn problem(&self) -> (u16, String) {
        let document = self.json();
        let code = document["code"].as_str().expect("a problem has a code");
        (self.status.as_u16(), code.to_owned())
    }
}

/// A router served on a port of its own, until it is dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves `app` on a free port of the loopback interface.
    ///
    /// # Panics
    ///
    /// Where no port is free.
    pub async fn start(app: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let task = tokio::spawn(async move {
            axum::serve(listener, app).await.expect("a server runs until it is dropped");
        });
        Self { address, task }
    }

    /// Opens a connection.
    ///
    /// # Panics
    ///
    /// Where the server does not accept it.
    pub async fn connect(&self) -> Wire {
        let stream = TcpStream::connect(self.address).await.expect("the server accepts");
        Wire { stream, read: Vec::new() }
    }

    /// Sends `request` on a connection of its own, and reads until the server closes it: say
    /// `Connection: close`.
    pub async fn exchange(&self, request: impl AsRef<[u8]>) -> WireAnswer {
        let mut wire = self.connect().await;
        wire.send(request).await;
        wire.rest().await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection, byte by byte.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    /// Sends bytes.
    ///
    /// # Panics
    ///
    /// Where the connection is closed.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the server reads");
    }

    /// Sends no more, and still reads.
    ///
    /// # Panics
    ///
    /// Where the connection is closed.
    pub async fn end_sending(&mut self) {
        self.stream.shutdown().await.expect("the connection lives");
    }

    /// Reads until what was read holds `end`, and gives it. Nothing is consumed.
    ///
    /// # Panics
    ///
    /// Where the server closes the connection before, or sends no more.
    pub async fn read_until(&mut self, end: &str) -> &[u8] {
        while !self.read.windows(end.len()).any(|window| window == end.as_bytes()) {
            let more = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
            let more = more.expect("the server goes on").expect("the connection lives");
            assert!(more > 0, "closed before {end:?}: {}", String::from_utf8_lossy(&self.read));
        }
        &self.read
    }

    /// Reads until the server closes the connection.
    ///
    /// # Panics
    ///
    /// Where it does not, or where what it sent is no response.
    pub async fn rest(self) -> WireAnswer {
        WireAnswer::parse(&self.rest_of_bytes().await)
    }

    /// Reads until the server closes the connection, whatever it sent.
    ///
    /// # Panics
    ///
    /// Where it does not.
    pub async fn rest_of_bytes(mut self) -> Vec<u8> {
        let end = self.stream.read_to_end(&mut self.read);
        tokio::time::timeout(PATIENCE, end).await.expect("the server closes").expect("all is read");
        self.read
    }
}

/// A response as it was on the wire. Its body is as it was sent, in chunks where it was chunked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireAnswer {
    /// The status.
    pub status: u16,
    /// The header lines, names in lower case, in their order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// All bytes behind the head.
    pub body: Vec<u8>,
}

impl WireAnswer {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let head = head.unwrap_or_else(|| panic!("a head ends with an empty line: {text:?}"));
        let mut lines = bytes[..head].split(|byte| *byte == b'\n');
        let status = lines.next().and_then(|line| std::str::from_utf8(line).ok());
        let status = status.and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let headers = lines.map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').expect("a header has a colon");
            let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
            (name, line[colon + 1..].trim_ascii().to_owned())
        });
        Self {
            status: status.unwrap_or_else(|| panic!("a status line comes first: {text:?}")),
            headers: headers.collect(),
            body: bytes[head + 4..].to_owned(),
        }
    }

    /// The values of all lines of this header.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        let lines = self.headers.iter().filter(|(line, _)| line == name);
        lines.map(|(_, value)| value.as_slice()).collect()
    }

    /// The value of the only line of this header; `None` where there is none.
    ///
    /// # Panics
    ///
    /// Where there are several.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let all = self.all(name);
        assert!(all.len() <= 1, "one line of {name}");
        all.first().copied()
    }
}
