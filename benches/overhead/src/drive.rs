//! Sends requests to one contender and takes the time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
};
use bench_contenders::Contender;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tower_service::Service as _;
use uuid::{Builder, Uuid};

/// What the requests of a batch have in common.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    /// Every request has a fresh key.
    First,
    /// Every request repeats one of the stored keys.
    Replay,
    /// All repeat the same key.
    HotReplay,
    /// No request has a key.
    NoKey,
}

impl Kind {
    /// In the order of the table's columns.
    pub const ALL: [Self; 4] = [Self::First, Self::Replay, Self::HotReplay, Self::NoKey];

    /// The column's heading.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Replay => "replay",
            Self::HotReplay => "replay, one hot key",
            Self::NoKey => "no key",
        }
    }
}

/// A contender whose store holds keys.
pub struct Load {
    contender: Contender,
    body: Bytes,
    stored: Vec<Uuid>,
}

impl Load {
    /// Stores `stored` keys, and makes sure that they are replayed.
    pub async fn new(contender: Contender, body: &Bytes, stored: usize) -> Self {
        let stored = std::iter::repeat_with(key).take(stored).collect();
        let mut load = Self { contender, body: body.clone(), stored };
        load.fill().await;
        load.check().await;
        load
    }

    async fn fill(&mut self) {
        if self.contender.is_bare() {
            return;
        }
        for some in self.stored.chunks(1_000) {
            let requests = some.iter().map(|key| self.request(Some(*key))).collect();
            drive(self.contender.app.clone(), requests).await;
        }
    }

    async fn check(&self) {
        let first = self.response(Some(key())).await;
        assert_ne!(first, self.response(Some(key())).await, "two keys are two runs");
        let unprotected = self.response(None).await;
        assert_ne!(unprotected, self.response(None).await, "without a key it runs");
        for key in [self.stored[0], self.stored[self.stored.len() / 2]] {
            let (first, second) = (self.response(Some(key)).await, self.response(Some(key)).await);
            let name = self.contender.name;
            assert_eq!(first == second, !self.contender.is_bare(), "{name} must replay");
        }
    }

    async fn response(&self, key: Option<Uuid>) -> Bytes {
        let mut app = self.contender.app.clone();
        let Ok(response) = app.call(self.request(key)).await;
        assert_eq!(response.status(), StatusCode::OK, "{}", self.contender.name);
        let body = response.into_body().collect().await;
        body.expect("the body is whole").to_bytes()
    }

    /// The mean time of one request in a batch per client, in nanoseconds.
    pub async fn time(&self, kind: Kind, clients: usize, batch: usize) -> f64 {
        let waiting = Arc::new(AtomicUsize::new(clients));
        let clients: Vec<_> = (0..clients)
            .map(|_| {
                let requests = self.requests(kind, batch);
                let (app, waiting) = (self.contender.app.clone(), Arc::clone(&waiting));
                tokio::spawn(async move {
                    // All start at once.
                    waiting.fetch_sub(1, Ordering::AcqRel);
                    while waiting.load(Ordering::Acquire) > 0 {
                        tokio::task::yield_now().await;
                    }
                    drive(app, requests).await
                })
            })
            .collect();
        let count = u32::try_from(clients.len() * batch).expect("a batch is small");
        let mut total = Duration::ZERO;
        for client in clients {
            total += client.await.expect("a client does not panic");
        }
        total.as_secs_f64() * 1e9 / f64::from(count)
    }

    fn requests(&self, kind: Kind, batch: usize) -> Vec<Request> {
        let key = || match kind {
            Kind::First => Some(key()),
            Kind::Replay => Some(self.stored[fastrand::usize(..self.stored.len())]),
            Kind::HotReplay => Some(self.stored[0]),
            Kind::NoKey => None,
        };
        (0..batch).map(|_| self.request(key())).collect()
    }

    /// A request with the headers that an HTTP client sends.
    fn request(&self, key: Option<Uuid>) -> Request {
        let mut request = Request::post("/orders")
            .header(header::HOST, "shop.example")
            .header(header::USER_AGENT, "bench/1.0")
            .header(header::ACCEPT, "*/*")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_LENGTH, self.body.len());
        if let Some(key) = key {
            request = request.header("idempotency-key", key.to_string());
        }
        if let Some(session) = self.session(key) {
            request = request.header(header::COOKIE, session);
        }
        request.body(Body::from(self.body.clone())).expect("the parts of the request are valid")
    }

    /// A key comes back from the client it came from.
    fn session(&self, key: Option<Uuid>) -> Option<&HeaderValue> {
        let sessions = &self.contender.sessions;
        let client = key.map_or(0, |key| usize::from(key.as_bytes()[0]));
        sessions.get(client)
    }
}

fn key() -> Uuid {
    Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid()
}

/// Sends one request after the other and reads the responses.
async fn drive(mut app: Router, requests: Vec<Request>) -> Duration {
    let start = Instant::now();
    for request in requests {
        let Ok(response) = app.call(request).await;
        assert_eq!(response.status(), StatusCode::OK);
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            std::hint::black_box(frame.expect("the body is whole"));
        }
    }
    start.elapsed()
}
