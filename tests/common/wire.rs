//! A router on a real socket, and a client that can be cut off at any byte.
#![allow(dead_code, reason = "not every test file uses every helper")]

use std::{net::SocketAddr, sync::Arc};

use axum::Router;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};

/// A fresh idempotency key.
pub(crate) fn fresh_key() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A router that is served on a port of its own.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: Arc<Notify>,
    serving: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(Notify::new());
        let signal = Arc::clone(&stop);
        let serving = tokio::spawn(async move {
            let signal = async move { signal.notified().await };
            axum::serve(listener, router).with_graceful_shutdown(signal).await.unwrap();
        });
        Self { address, stop, serving }
    }

    /// Shuts down gracefully; returns when `axum::serve` has returned.
    pub(crate) async fn stop(self) {
        self.stop.notify_one();
        self.serving.await.unwrap();
    }

    /// Sends a whole request and leaves its response for later.
    pub(crate) async fn open(&self, path: &str, key: &str, body: &str) -> Open {
        let head = head(path, key, body.len());
        self.write(format!("{head}{body}").as_bytes()).await
    }

    /// Sends the head of a request and only the first bytes of its body.
    pub(crate) async fn open_upload(&self, path: &str, key: &str, body: &str, sent: usize) -> Open {
        let head = head(path, key, body.len());
        self.write(format!("{head}{}", &body[..sent]).as_bytes()).await
    }

    async fn write(&self, bytes: &[u8]) -> Open {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        Open(stream)
    }

    /// Sends a request and reads its response.
    ///
    /// # Panics
    ///
    /// Where the connection is closed without one.
    pub(crate) async fn post(&self, path: &str, key: &str, body: &str) -> Reply {
        self.open(path, key, body).await.reply().await.expect("a response")
    }
}

fn head(path: &str, key: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\nidempotency-key: {key}\r\n\
         content-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    )
}

/// A request on its way. Dropped, it is cut off.
pub(crate) struct Open(TcpStream);

impl Open {
    /// The response, or `None` where the connection is closed without a whole one.
    pub(crate) async fn reply(mut self) -> Option<Reply> {
        let mut bytes = Vec::new();
        // A reset is a connection closed without a response as well.
        self.0.read_to_end(&mut bytes).await.ok()?;
        Reply::parse(&bytes)
    }
}

/// A response as it came over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Some(Self { status, headers, body: body.to_owned() })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_replay(&self) -> bool {
        self.header("idempotent-replayed") == Some("true")
    }

    /// The `code` of a problem document.
    pub(crate) fn code(&self) -> String {
        let document: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        document["code"].as_str().unwrap_or_default().to_owned()
    }
}
