//! Sends requests to one contender and takes the time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::extract::Request;
use benches::{
    Contender, Handler, Service,
    request::{drive, key, respond},
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use uuid::Uuid;

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
    service: Service,
    body: Bytes,
    stored: Vec<Uuid>,
}

impl Load {
    /// Stores `stored` keys, and makes sure that they are replayed.
    pub async fn new(contender: Contender, handler: Handler, body: &Bytes, stored: usize) -> Self {
        let stored = std::iter::repeat_with(key).take(stored).collect();
        let service = contender.serve(handler);
        let load = Self { contender, service, body: body.clone(), stored };
        load.fill().await;
        load.check().await;
        load
    }

    async fn fill(&self) {
        if self.contender.replays() {
            let mut router = self.service.router.clone();
            for some in self.stored.chunks(1_000) {
                let requests: Vec<_> = some.iter().map(|key| self.request(Some(*key))).collect();
                drive(&mut router, requests).await;
            }
        }
    }

    async fn check(&self) {
        let first = self.response(Some(key())).await;
        assert_ne!(first, self.response(Some(key())).await, "two keys are two runs");
        let unprotected = self.response(None).await;
        assert_ne!(unprotected, self.response(None).await, "without a key it runs");
        for key in [self.stored[0], self.stored[self.stored.len() / 2]] {
            let (first, second) = (self.response(Some(key)).await, self.response(Some(key)).await);
            let Self { contender, .. } = self;
            assert_eq!(first == second, contender.replays(), "{contender:?} must replay");
        }
    }

    async fn response(&self, key: Option<Uuid>) -> Bytes {
        let response = respond(&mut self.service.router.clone(), self.request(key)).await;
        let body = response.into_body().collect().await;
        body.expect("the body is whole").to_bytes()
    }

    /// The mean time of one request in a batch per client, in nanoseconds.
    pub async fn time(&self, kind: Kind, clients: usize, batch: usize) -> f64 {
        let waiting = Arc::new(AtomicUsize::new(clients));
        let clients: Vec<_> = (0..clients)
            .map(|_| {
                let requests = self.requests(kind, batch);
                let (mut router, waiting) = (self.service.router.clone(), Arc::clone(&waiting));
                tokio::spawn(async move {
                    // All start at once.
                    waiting.fetch_sub(1, Ordering::AcqRel);
                    while waiting.load(Ordering::Acquire) > 0 {
                        tokio::task::yield_now().await;
                    }
                    let start = Instant::now();
                    drive(&mut router, requests).await;
                    start.elapsed()
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

    fn request(&self, key: Option<Uuid>) -> Request {
        self.service.request(key, &self.body)
    }
}
