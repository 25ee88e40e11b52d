//! The service downstream of the outbox: it books each message once, by its idempotency key, and
//! counts what reached it again.
//!
//! ```text
//! POST /bookings   {id, …} -> 201
//! GET  /bookings   {"delivered": 3, "booked": 2, "booked_twice": 0}
//! ```
//!
//! `LEDGER_ADDR` says where to listen, `127.0.0.1:3001` by default. It forgets all when it ends.

use std::{
    collections::HashMap,
    env,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::Response,
    routing::post,
};
use idempotent_axum::idempotent;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use uuid::Uuid;

#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<Books>>);

#[derive(Default)]
struct Books {
    delivered: usize,
    /// How often each payment was booked.
    booked: HashMap<Uuid, usize>,
}

impl Ledger {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Deserialize)]
struct Booking {
    id: Uuid,
}

#[derive(Serialize)]
struct Counts {
    /// Requests that came.
    delivered: usize,
    /// Payments that are booked.
    booked: usize,
    /// Payments that are booked more than once.
    booked_twice: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let addr = env::var("LEDGER_ADDR").unwrap_or_else(|_| "127.0.0.1:3001".to_owned());
    let addr: SocketAddr = addr.parse().context("LEDGER_ADDR")?;
    let ledger = Ledger::default();
    let arrivals = middleware::from_fn_with_state(ledger.clone(), count);
    let bookings = post(book).layer(arrivals).get(counts);
    let app = Router::new().route("/bookings", bookings).with_state(ledger);
    let listener = TcpListener::bind(addr).await.with_context(|| format!("{addr}"))?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

#[idempotent(ttl = "24h", required)]
async fn book(State(ledger): State<Ledger>, Json(booking): Json<Booking>) -> StatusCode {
    *ledger.books().booked.entry(booking.id).or_default() += 1;
    StatusCode::CREATED
}

/// Counts what arrives, replayed or not.
async fn count(State(ledger): State<Ledger>, request: Request, next: Next) -> Response {
    ledger.books().delivered += 1;
    next.run(request).await
}

async fn counts(State(ledger): State<Ledger>) -> Json<Counts> {
    let books = ledger.books();
    Json(Counts {
        delivered: books.delivered,
        booked: books.booked.len(),
        booked_twice: books.booked.values().filter(|&&times| times > 1).count(),
    })
}
