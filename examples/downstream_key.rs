//! A handler that calls other systems: each gets a key that is derived from the caller's, so it recognises
//! the retry of a handler that failed halfway.
//!
//! `cargo run --example downstream_key`, then twice: 502 because the mail server is down, then 201 with
//! the charge that was made the first time.
//!
//! ```text
//! curl -i 127.0.0.1:3000/orders -H 'idempotency-key: 8e03978e-40d5-43e8-bc93-6894a57f9324' -d 'tea'
//! ```

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
};

use axum::{Router, extract::State, http::StatusCode, routing::post};
use idempotent_axum::{IdempotencyKey, idempotent};
use tokio::sync::Mutex;
use uuid::Uuid;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app(Arc::default())).await
}

pub(crate) fn app(others: Arc<Others>) -> Router {
    Router::new().route("/orders", post(order)).with_state(others)
}

/// A 502 frees the key, so the retry runs from the start. Each call has its own label, and so its own key.
#[idempotent]
async fn order(
    State(others): State<Arc<Others>>,
    key: IdempotencyKey,
    item: String,
) -> Result<(StatusCode, String), StatusCode> {
    let charge = others.charge(key.derive("bank")).await;
    others.mail(key.derive("mail")).map_err(|()| StatusCode::BAD_GATEWAY)?;
    Ok((StatusCode::CREATED, format!("{item}: charge {charge}\n")))
}

/// Stands for a bank that takes keys, as Stripe, Adyen and others do, and a mail server that fails once.
#[derive(Default)]
pub(crate) struct Others {
    pub(crate) charges: Mutex<HashMap<Uuid, usize>>,
    mail_is_up: AtomicBool,
}

impl Others {
    async fn charge(&self, key: Uuid) -> usize {
        let mut charges = self.charges.lock().await;
        let next = charges.len() + 1;
        *charges.entry(key).or_insert(next)
    }

    fn mail(&self, _key: Uuid) -> Result<(), ()> {
        if self.mail_is_up.swap(true, Ordering::Relaxed) { Ok(()) } else { Err(()) }
    }
}
