//! Everything that is compared.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use axum_idempotent::{IdempotentLayer, IdempotentOptions};
use bytes::Bytes;
use idempotent_axum::{Idempotency, MemoryStore, RunBoundary, Sealing};
use moka::sync::Cache;
use ruts::{CookieOptions, SessionLayer, store::moka::MokaStore};
use tower_cookies::CookieManagerLayer;
use uuid::Uuid;

use crate::{Handler, request::request, shared::Shared};

/// Clients of a service: the sessions that `axum-idempotent`'s responses are spread over. It walks
/// all responses of a session to store another one.
const SESSIONS: usize = 256;

/// One way to make a handler idempotent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// None: the yardstick.
    Bare,
    /// The middleware of thirty lines that people write.
    ByHand,
    /// `#[idempotent]`, with the layer.
    Ours,
    /// `#[idempotent]` on the process-wide store, which holds 64 MiB.
    OursWithoutLayer,
    /// As [`Ours`](Self::Ours), inside a `RunBoundary`. Not one of [`ALL`](Self::ALL): what it costs
    /// beyond them is counted, not timed.
    OursInBoundary,
    /// As [`Ours`](Self::Ours), on a store in this process that is asked as one on a server is. Like
    /// the two below counted alone: they seal what such a store keeps, and key its digests as well.
    OursShared,
    /// With `seal`.
    OursSealed,
    /// With `seal` and `digest_secret`.
    OursSealedAndKeyed,
    /// The crate of that name.
    AxumIdempotent,
    /// The crate of that name.
    Idempotent,
}

impl Contender {
    /// In the order of the tables' rows, the yardstick first.
    pub const ALL: [Self; 6] = [
        Self::Bare,
        Self::ByHand,
        Self::Ours,
        Self::OursWithoutLayer,
        Self::AxumIdempotent,
        Self::Idempotent,
    ];

    /// What the tables call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::ByHand => "by hand, unsafe",
            Self::Ours => "idempotent-axum",
            Self::OursWithoutLayer => "idempotent-axum, no layer",
            Self::OursInBoundary => "idempotent-axum, in a boundary",
            Self::OursShared => "a shared store",
            Self::OursSealed => "sealed",
            Self::OursSealedAndKeyed => "sealed, with keyed digests",
            Self::AxumIdempotent => "axum-idempotent 0.6, unsafe",
            Self::Idempotent => "idempotent 2.0",
        }
    }

    /// The one that the tables call `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|contender| contender.name() == name)
    }

    /// Whether a repeated request gets the stored response.
    #[must_use]
    pub fn replays(self) -> bool {
        self != Self::Bare
    }

    /// Whether a store that holds a million keys is worth the wait.
    #[must_use]
    pub fn scales(self) -> bool {
        matches!(self, Self::Bare | Self::ByHand | Self::Ours)
    }

    /// The handler's service with an empty store, except that [`OursWithoutLayer`] has one store in
    /// a process.
    ///
    /// [`OursWithoutLayer`]: Self::OursWithoutLayer
    #[must_use]
    pub fn serve(self, handler: Handler) -> Service {
        let router = match self {
            Self::Bare => handler.bare(),
            Self::ByHand => by_hand(handler.bare()),
            Self::Ours => handler.idempotent().layer(settings()),
            Self::OursWithoutLayer => handler.idempotent(),
            Self::OursInBoundary => {
                handler.idempotent().layer(RunBoundary::new()).layer(settings())
            }
            Self::OursShared => handler.idempotent().layer(shared()),
            Self::OursSealed => handler.idempotent().layer(sealed()),
            Self::OursSealedAndKeyed => handler.idempotent().layer(sealed().digest_secret([8; 32])),
            Self::AxumIdempotent => axum_idempotent(handler.bare()),
            Self::Idempotent => idempotent(handler.bare()),
        };
        let sessions = if self == Self::AxumIdempotent { SESSIONS } else { 0 };
        let sessions = std::iter::repeat_with(session).take(sessions).collect();
        Service { router, sessions, has_user: handler == Handler::Authenticated }
    }
}

/// A contender in service.
pub struct Service {
    /// Answers `POST /orders`.
    pub router: Router,
    /// The cookies of its clients, if it tells them apart.
    sessions: Vec<HeaderValue>,
    /// Whether its handler asks for a user.
    has_user: bool,
}

impl Service {
    /// A request of this service; a key always comes from the same client.
    #[must_use]
    pub fn request(&self, key: Option<Uuid>, body: &Bytes) -> Request {
        let mut request = request(key, body.clone());
        let client = key.map_or(0, |key| usize::from(key.as_bytes()[0]));
        if let Some(session) = self.sessions.get(client) {
            request.headers_mut().insert(header::COOKIE, session.clone());
        }
        if self.has_user {
            let token = HeaderValue::from_static("Bearer 7");
            request.headers_mut().insert(header::AUTHORIZATION, token);
        }
        request
    }
}

/// On a store that evicts nothing here.
fn settings() -> Idempotency {
    Idempotency::new(memory())
}

fn memory() -> MemoryStore {
    MemoryStore::builder().max_bytes(4 << 30).build()
}

fn shared() -> Idempotency {
    Idempotency::new(Shared(memory()))
}

fn sealed() -> Idempotency {
    shared().seal(Sealing::new("2026-11", [7; 32]))
}

/// What people write: no claim, so two requests at once both run; no fingerprint, no scope.
fn by_hand(router: Router) -> Router {
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
    router.layer(from_fn_with_state(cache, middleware))
}

/// With the key from the header, its fastest mode; a request without one passes.
fn axum_idempotent(router: Router) -> Router {
    let options =
        IdempotentOptions::default().use_idempotency_key_header(None, false).expire_after(3600);
    let store = Arc::new(MokaStore::builder().build());
    let cookie = CookieOptions::build().name("session").max_age(3600).path("/");
    router
        .layer(IdempotentLayer::<MokaStore>::new(options))
        .layer(SessionLayer::new(store).with_cookie_options(cookie))
        .layer(CookieManagerLayer::new())
}

fn session() -> HeaderValue {
    let cookie = format!("session={}", ruts::Id::default().as_str());
    HeaderValue::from_str(&cookie).expect("an id is printable")
}

fn idempotent(router: Router) -> Router {
    let store = idempotent::memory::MemoryStore::builder().try_build().expect("in a runtime");
    router.layer(idempotent::middleware::IdempotencyLayer::new(store))
}
