//! A webhook: its sender delivers an event again until it is answered, each time with the event's id.
//!
//! `cargo run --example webhook`; the signature is HMAC-SHA256 of the body, in hex.

use axum::{
    Router,
    body::Bytes,
    extract::{FromRequest, Request, State},
    http::StatusCode,
    routing::post,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use idempotent_axum::idempotent;
use serde::Deserialize;
use std::sync::{Arc, atomic::AtomicU64, atomic::Ordering};

pub(crate) const SECRET: &[u8] = b"whsec_example";

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app(Arc::default())).await
}

pub(crate) fn app(total: Arc<AtomicU64>) -> Router {
    Router::new().route("/webhooks/payments", post(paid)).with_state(total)
}

/// The id is the sender's, so the key space is, too. Another delivery may have another body.
#[idempotent(key = event.id, principal = "payment-provider", ttl = "7d")]
async fn paid(State(total): State<Arc<AtomicU64>>, event: Event) -> StatusCode {
    total.fetch_add(event.amount, Ordering::Relaxed);
    StatusCode::NO_CONTENT
}

/// An event whose signature is right. An event that is forged claims no key.
#[derive(Deserialize)]
struct Event {
    id: String,
    amount: u64,
}

impl<S: Send + Sync> FromRequest<S> for Event {
    type Rejection = StatusCode;

    async fn from_request(request: Request, state: &S) -> Result<Self, StatusCode> {
        let signature = request.headers().get("x-signature").map(|value| value.as_bytes().to_vec());
        let body =
            Bytes::from_request(request, state).await.map_err(|_| StatusCode::BAD_REQUEST)?;
        let signature = signature.and_then(|hex| hex::decode(hex).ok());
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET).expect("any length will do");
        mac.update(&body);
        // In constant time.
        mac.verify_slice(&signature.unwrap_or_default()).map_err(|_| StatusCode::UNAUTHORIZED)?;
        serde_json::from_slice(&body).map_err(|_| StatusCode::UNPROCESSABLE_ENTITY)
    }
}
