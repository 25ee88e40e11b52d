//! Whose key it is: with `principal`, two callers can use the same key without colliding, and neither
//! gets the other's response.
//!
//! `cargo run --example principal`, then as `ada` and as `bob`, twice each:
//!
//! ```text
//! curl -i 127.0.0.1:3000/orders -H 'authorization: Bearer ada' \
//!     -H 'idempotency-key: 8e03978e-40d5-43e8-bc93-6894a57f9324' -d 'tea'
//! ```

use axum::{
    Router,
    extract::FromRequestParts,
    http::{StatusCode, header::AUTHORIZATION, request::Parts},
    routing::post,
};
use idempotent_axum::{Idempotency, MemoryStore, idempotent};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app(Idempotency::new(MemoryStore::new()))).await
}

pub(crate) fn app(idempotency: Idempotency) -> Router {
    Router::new().route("/orders", post(order)).layer(idempotency)
}

/// If `user` is an `Option<User>`: `principal = user.as_ref().map(|user| &user.name)`.
#[idempotent(principal = user.name)]
async fn order(user: User, item: String) -> (StatusCode, String) {
    (StatusCode::CREATED, format!("{item} for {}\n", user.name))
}

struct User {
    name: String,
}

/// Extractors run before a replay: whoever is logged out gets 401, not a stored response.
impl<S: Sync> FromRequestParts<S> for User {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let token = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let name = token.and_then(|token| token.strip_prefix("Bearer "));
        // Stands for a look at the token's signature, or at the session.
        let name = name.filter(|name| ["ada", "bob"].contains(name));
        Ok(Self { name: name.ok_or(StatusCode::UNAUTHORIZED)?.to_owned() })
    }
}
