//! The paths of the library, each as a program for callgrind.

use axum::{
    Json, Router,
    body::Body,
    extract::Request,
    http::{StatusCode, header},
    routing::post,
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use idempotent_axum::{Idempotency, MemoryStore, idempotent};
use serde::{Deserialize, Serialize};
use tower_service::Service as _;

/// How many requests are counted: enough to even out hash seeds and the cache's housekeeping.
pub const REQUESTS: usize = 4_000;
const WARM_UP: usize = 1_000;

/// What the counted requests do.
#[derive(Clone, Copy, PartialEq)]
pub enum Path {
    /// The handler without the attribute: the yardstick.
    Bare,
    /// With the attribute, no key sent.
    NoKey,
    /// Every request has a fresh key.
    First,
    /// Every request repeats an earlier one.
    Replay,
}

impl Path {
    /// The yardstick first.
    pub const ALL: [Self; 4] = [Self::Bare, Self::NoKey, Self::First, Self::Replay];

    /// As in the baseline.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::NoKey => "no-key",
            Self::First => "first",
            Self::Replay => "replay",
        }
    }

    /// The path that this program calls itself with.
    pub fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|path| path.name() == name).expect("a name from `ALL`")
    }

    /// Sends the requests; callgrind counts from the end of the warm-up.
    pub fn run(self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be built");
        let mut app = if self == Self::Bare {
            Router::new().route("/orders", post(order))
        } else {
            let store = MemoryStore::builder().max_bytes(1 << 30).build();
            Router::new().route("/orders", post(idempotent_order)).layer(Idempotency::new(store))
        };
        let mut keys = fastrand::Rng::with_seed(7);
        let key = || (self != Self::Bare && self != Self::NoKey).then(|| keys.u128(..));
        let keys: Vec<_> = std::iter::repeat_with(key).take(WARM_UP + REQUESTS).collect();
        let (warm_up, counted) = keys.split_at(WARM_UP);
        if self == Self::Replay {
            let replayed = runtime.block_on(async {
                send(&mut app, requests(counted)).await;
                send(&mut app, requests(counted)).await
            });
            assert_eq!(replayed, REQUESTS, "all must be replayed");
        }
        runtime.block_on(send(&mut app, requests(warm_up)));
        let replayed = callgrind_collects_here(&runtime, &mut app, requests(counted));
        assert_eq!(replayed, if self == Self::Replay { REQUESTS } else { 0 });
    }
}

/// Callgrind counts while this function runs, and finds it by this name.
#[inline(never)]
fn callgrind_collects_here(
    runtime: &tokio::runtime::Runtime,
    app: &mut Router,
    requests: Vec<Request>,
) -> usize {
    runtime.block_on(send(app, requests))
}

#[derive(Serialize, Deserialize)]
struct Order {
    id: u64,
    note: String,
}

async fn order(order: Json<Order>) -> Json<Order> {
    order
}

#[idempotent]
async fn idempotent_order(order: Json<Order>) -> Json<Order> {
    order
}

fn requests(keys: &[Option<u128>]) -> Vec<Request> {
    let body = Bytes::from(format!(r#"{{"id":281474976710656,"note":"{}"}}"#, "n".repeat(68)));
    assert_eq!(body.len(), 100);
    keys.iter()
        .map(|key| {
            let mut request = Request::post("/orders")
                .header(header::HOST, "shop.example")
                .header(header::USER_AGENT, "bench/1.0")
                .header(header::ACCEPT, "*/*")
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::CONTENT_LENGTH, body.len());
            if let Some(key) = key {
                let key = uuid::Builder::from_random_bytes(key.to_be_bytes()).into_uuid();
                request = request.header("idempotency-key", key.to_string());
            }
            request.body(Body::from(body.clone())).expect("the parts of the request are valid")
        })
        .collect()
}

/// Sends one request after the other; gives the number of replays.
async fn send(app: &mut Router, requests: Vec<Request>) -> usize {
    let mut replayed = 0;
    for request in requests {
        let Ok(response) = app.call(request).await;
        assert_eq!(response.status(), StatusCode::OK);
        replayed += usize::from(response.headers().contains_key("idempotent-replayed"));
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            std::hint::black_box(frame.expect("the body is whole"));
        }
    }
    replayed
}
