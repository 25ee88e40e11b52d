//! The handler that is made idempotent.

use std::cell::Cell;

use axum::{
    Json, Router,
    extract::FromRequestParts,
    http::{StatusCode, header, request::Parts},
    routing::post,
};
use idempotent_axum::idempotent;
use serde::{Deserialize, Serialize};

/// A `POST /orders` that sends its order back, with the number of the run as its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// Never awaits.
    Returns,
    /// Awaits once, as for a database.
    Awaits,
    /// Extracts a user before the order; with `#[idempotent]`, the user is the principal.
    Authenticated,
}

impl Handler {
    /// The route without `#[idempotent]`.
    pub fn bare(self) -> Router {
        let route = match self {
            Self::Returns => post(order),
            Self::Awaits => post(order_after_await),
            Self::Authenticated => post(order_of_user),
        };
        Router::new().route("/orders", route)
    }

    /// The route with `#[idempotent]`.
    pub fn idempotent(self) -> Router {
        let route = match self {
            Self::Returns => post(idempotent_order),
            Self::Awaits => post(idempotent_order_after_await),
            Self::Authenticated => post(idempotent_order_of_user),
        };
        Router::new().route("/orders", route)
    }
}

/// The request and the response body.
#[derive(Serialize, Deserialize)]
pub struct Order {
    /// In a response: differs from run to run of the handler.
    pub id: u64,
    /// Fills the body up to its size.
    pub note: String,
}

/// Whoever the token belongs to.
struct User(u64);

impl<S: Sync> FromRequestParts<S> for User {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, StatusCode> {
        let authorization = parts.headers.get(header::AUTHORIZATION);
        let token = authorization.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        token.and_then(|token| token.parse().ok()).map(Self).ok_or(StatusCode::UNAUTHORIZED)
    }
}

async fn order(Json(order): Json<Order>) -> Json<Order> {
    number(order)
}

#[idempotent]
async fn idempotent_order(Json(order): Json<Order>) -> Json<Order> {
    number(order)
}

async fn order_after_await(Json(order): Json<Order>) -> Json<Order> {
    tokio::task::yield_now().await;
    number(order)
}

#[idempotent]
async fn idempotent_order_after_await(Json(order): Json<Order>) -> Json<Order> {
    tokio::task::yield_now().await;
    number(order)
}

async fn order_of_user(_user: User, Json(order): Json<Order>) -> Json<Order> {
    number(order)
}

#[idempotent(principal = user.0)]
async fn idempotent_order_of_user(user: User, Json(order): Json<Order>) -> Json<Order> {
    number(order)
}

thread_local! {
    /// Per thread, so that counting does not make two workers wait for each other.
    static RUNS: Cell<u64> = Cell::new(fastrand::u64(1 << 48..1 << 49));
}

fn number(order: Order) -> Json<Order> {
    let id = RUNS.replace(RUNS.get() + 1);
    Json(Order { id, ..order })
}

/// A counter that each run of a handler on this thread raises by one.
#[must_use]
pub fn runs() -> u64 {
    RUNS.get()
}
