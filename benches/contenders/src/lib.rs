//! The same handler behind everything that is compared.

use std::{cell::Cell, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::post,
};
use axum_idempotent::{IdempotentLayer, IdempotentOptions};
use bytes::Bytes;
use idempotent_axum::{Idempotency, MemoryStore};
use moka::sync::Cache;
use ruts::{CookieOptions, SessionLayer, store::moka::MokaStore};
use serde::{Deserialize, Serialize};
use tower_cookies::CookieManagerLayer;

/// Clients of a service: the sessions that `axum-idempotent`'s responses are spread over. It walks
/// all responses of a session to store another one.
const SESSIONS: usize = 256;

/// One way to make the handler idempotent, with an empty store.
pub struct Contender {
    /// What the table calls it.
    pub name: &'static str,
    /// The service, new.
    pub app: Router,
    /// The cookies that its requests carry, one per client.
    pub sessions: Vec<HeaderValue>,
    /// Whether a store that holds a million keys is worth the wait.
    pub scales: bool,
}

impl Contender {
    /// Whether this is the yardstick, which does not replay.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.name == "bare"
    }
}

/// What is compared, the bare handler first. Must be called in a runtime.
#[must_use]
pub fn all(awaits: bool) -> Vec<Contender> {
    if awaits { contenders::<true>() } else { contenders::<false>() }
}

fn contenders<const AWAITS: bool>() -> Vec<Contender> {
    let bare = || Router::new().route("/orders", post(order::<AWAITS>));
    let attribute = || Router::new().route("/orders", post(idempotent_order::<AWAITS>));
    let contender = |name, app| Contender { name, app, sessions: Vec::new(), scales: false };
    let (axum_idempotent, sessions) = axum_idempotent(bare());
    vec![
        Contender { scales: true, ..contender("bare", bare()) },
        Contender { scales: true, ..contender("by hand, unsafe", by_hand(bare())) },
        Contender {
            scales: true,
            ..contender(
                "idempotent-axum",
                attribute()
                    .layer(Idempotency::new(MemoryStore::builder().max_bytes(4 << 30).build())),
            )
        },
        contender("idempotent-axum, no layer", attribute()),
        Contender { sessions, ..contender("axum-idempotent 0.6, unsafe", axum_idempotent) },
        contender("idempotent 2.0", idempotent(bare())),
    ]
}

/// The request and the response body.
#[derive(Serialize, Deserialize)]
pub struct Order {
    /// In a response: differs from run to run of the handler.
    pub id: u64,
    /// Fills the body up to its size.
    pub note: String,
}

async fn order<const AWAITS: bool>(Json(order): Json<Order>) -> Json<Order> {
    handle::<AWAITS>(order).await
}

#[idempotent_axum::idempotent]
async fn idempotent_order<const AWAITS: bool>(Json(order): Json<Order>) -> Json<Order> {
    handle::<AWAITS>(order).await
}

async fn handle<const AWAITS: bool>(order: Order) -> Json<Order> {
    thread_local!(static RUNS: Cell<u64> = Cell::new(fastrand::u64(1 << 48..1 << 49)));
    if AWAITS {
        tokio::task::yield_now().await;
    }
    // Per thread, so that counting does not make two workers wait for each other.
    let id = RUNS.replace(RUNS.get() + 1);
    Json(Order { id, ..order })
}

/// What people write: no claim, so two requests at once both run; no fingerprint, no scope.
fn by_hand(app: Router) -> Router {
    #[derive(Clone)]
    struct Saved(StatusCode, HeaderMap, Bytes);

    async fn middleware(
        State(cache): State<Cache<String, Saved>>,
        request: Request,
        next: Next,
    ) -> Response {
        let key = request.headers().get("idempotency-key").and_then(|key| key.to_str().ok());
        let Some(key) = key.map(str::to_owned) else { return next.run(request).await };
        if let Some(Saved(status, headers, body)) = cache.get(&key) {
            return (status, headers, body).into_response();
        }
        let (parts, body) = next.run(request).await.into_parts();
        let Ok(body) = to_bytes(body, usize::MAX).await else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        cache.insert(key, Saved(parts.status, parts.headers.clone(), body.clone()));
        Response::from_parts(parts, Body::from(body))
    }

    let cache =
        Cache::builder().max_capacity(10_000_000).time_to_live(Duration::from_hours(1)).build();
    app.layer(from_fn_with_state(cache, middleware))
}

/// With the key from the header, its fastest mode; a request without one passes.
fn axum_idempotent(app: Router) -> (Router, Vec<HeaderValue>) {
    let options =
        IdempotentOptions::default().use_idempotency_key_header(None, false).expire_after(3600);
    let store = Arc::new(MokaStore::builder().build());
    let cookie = CookieOptions::build().name("session").max_age(3600).path("/");
    let app = app
        .layer(IdempotentLayer::<MokaStore>::new(options))
        .layer(SessionLayer::new(store).with_cookie_options(cookie))
        .layer(CookieManagerLayer::new());
    let sessions = (0..SESSIONS)
        .map(|_| {
            let cookie = format!("session={}", ruts::Id::default().as_str());
            HeaderValue::from_str(&cookie).expect("an id is printable")
        })
        .collect();
    (app, sessions)
}

fn idempotent(app: Router) -> Router {
    let store = idempotent::memory::MemoryStore::builder().try_build().expect("in a runtime");
    app.layer(idempotent::middleware::IdempotencyLayer::new(store))
}
