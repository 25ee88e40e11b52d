//! [`Server`]: a router on a real socket, and [`Wire`], a client that controls every byte.

use std::{net::SocketAddr, sync::Arc};

use axum::Router;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};

use crate::{Answer, PATIENCE};

/// A router served on its own port, until it is stopped or dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Arc<Notify>,
    serving: JoinHandle<()>,
}

impl Server {
    /// Serves `app` on a free port of the loopback interface.
    ///
    /// # Panics
    ///
    /// Panics if no port is free.
    pub async fn start(app: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let stop = Arc::new(Notify::new());
        let signal = Arc::clone(&stop);
        let serving = tokio::spawn(async move {
            let signal = async move { signal.notified().await };
            let serve = axum::serve(listener, app).with_graceful_shutdown(signal);
            serve.await.expect("a server runs until it is stopped");
        });
        Self { address, stop, serving }
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Shuts down gracefully; returns when `axum::serve` has returned.
    ///
    /// # Panics
    ///
    /// Panics if the server has panicked.
    pub async fn stop(mut self) {
        self.stop.notify_one();
        (&mut self.serving).await.expect("the server does not panic");
    }

    /// Opens a connection.
    ///
    /// # Panics
    ///
    /// Panics if the server does not accept it.
    pub async fn connect(&self) -> Wire {
        let stream = TcpStream::connect(self.address).await.expect("the server accepts");
        Wire { stream, read: Vec::new() }
    }

    /// Sends `request` on a new connection, and reads until the server closes it, so the request
    /// should contain `Connection: close`.
    ///
    /// # Panics
    ///
    /// Panics if the server closes it without a response.
    pub async fn exchange(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut wire = self.connect().await;
        wire.send(request).await;
        wire.reply().await.expect("a response")
    }

    /// Sends a whole `POST` with a key on a new connection, leaving its response for later.
    pub async fn open(&self, path: &str, key: &str, body: &str) -> Wire {
        self.open_upload(path, key, body, body.len()).await
    }

    /// Sends the head of such a request, and only the first `sent` bytes of its body.
    pub async fn open_upload(&self, path: &str, key: &str, body: &str, sent: usize) -> Wire {
        let mut wire = self.connect().await;
        wire.send(head(path, key, body.len()) + &body[..sent]).await;
        wire
    }

    /// Sends such a request, and reads its response.
    pub async fn post(&self, path: &str, key: &str, body: &str) -> Answer {
        self.exchange(head(path, key, body.len()) + body).await
    }
}

fn head(path: &str, key: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\nidempotency-key: {key}\r\n\
         content-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    )
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// One connection, byte by byte. Dropping it cuts the connection.
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
    /// Panics if the connection is closed.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the server reads");
    }

    /// Stops sending, but continues to read.
    ///
    /// # Panics
    ///
    /// Panics if the connection is closed.
    pub async fn end_sending(&mut self) {
        self.stream.shutdown().await.expect("the connection lives");
    }

    /// Reads until what was read contains `end`, and returns it. Nothing is consumed.
    ///
    /// # Panics
    ///
    /// Panics if the server closes the connection first, or sends nothing more.
    pub async fn read_until(&mut self, end: &str) -> &[u8] {
        while !self.read.windows(end.len()).any(|window| window == end.as_bytes()) {
            let more = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
            let more = more.expect("the server sends more").expect("the connection lives");
            assert!(more > 0, "closed before {end:?}: {}", String::from_utf8_lossy(&self.read));
        }
        &self.read
    }

    /// Reads until the server closes the connection, and returns the response; `None` if it was
    /// closed before the head was complete.
    ///
    /// # Panics
    ///
    /// Panics if the server does not close it.
    pub async fn reply(mut self) -> Option<Answer> {
        let end = self.stream.read_to_end(&mut self.read);
        // A reset also counts as a connection closed without a response.
        tokio::time::timeout(PATIENCE, end).await.expect("the server closes").ok()?;
        Answer::parse(&self.read)
    }

    /// Reads until the server closes the connection, whatever it sent.
    ///
    /// # Panics
    ///
    /// Panics if it does not.
    pub async fn rest_of_bytes(mut self) -> Vec<u8> {
        let end = self.stream.read_to_end(&mut self.read);
        tokio::time::timeout(PATIENCE, end).await.expect("the server closes").expect("all is read");
        self.read
    }
}
