//! A store of your own around one of the library's: while it is closed for maintenance, new keys get 503,
//! and retries still get their stored responses.
//!
//! ```text
//! cargo run --example custom_store
//! curl 127.0.0.1:3000/payments -H 'idempotency-key: 8e03978e-40d5-43e8-bc93-6894a57f9324' -d 'order 7'
//! curl 127.0.0.1:3000/close -X POST # from now on the first key is replayed, and another gets 503
//! ```

use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering};
use std::time::Duration;

use axum::{Router, body::Bytes, extract::State, routing::post};
use idempotent_axum::{
    Attempt, Claim, Forgotten, Hold, Idempotency, KeyState, MemoryStore, Store, StoreError,
    StoreKey, idempotent,
};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app(MemoryStore::new())).await
}

pub(crate) fn app(inner: impl Store) -> Router {
    let closed = Arc::new(AtomicBool::new(false));
    let store = Closable { inner, closed: Arc::clone(&closed) };
    let payments = Router::new().route("/payments", post(pay)).layer(Idempotency::new(store));
    payments.route("/close", post(close)).with_state(closed)
}

#[idempotent]
async fn pay(order: String) -> String {
    format!("paid {order}\n")
}

async fn close(State(closed): State<Arc<AtomicBool>>) {
    closed.store(true, Ordering::Relaxed);
}

#[derive(Default)]
pub(crate) struct Closable<S> {
    inner: S,
    closed: Arc<AtomicBool>,
}

/// Only a new claim is refused: what runs still renews, completes and releases its own.
impl<S: Store> Store for Closable<S> {
    async fn claim(&self, attempt: &Attempt, lease: Duration) -> Result<Claim, StoreError> {
        // One atomic step, as a look and then a claim would not be.
        let claim = self.inner.claim(attempt, lease).await?;
        if matches!(claim, Claim::Claimed { .. }) && self.closed.load(Ordering::Relaxed) {
            self.inner.release(attempt).await?;
            // Nothing is held, so the runtime has nothing to release either.
            return Err(StoreError::not_sent("closed for maintenance"));
        }
        Ok(claim)
    }

    async fn renew(&self, attempt: &Attempt, lease: Duration) -> Result<Hold, StoreError> {
        self.inner.renew(attempt, lease).await
    }

    async fn complete(
        &self,
        attempt: &Attempt,
        record: Bytes,
        ttl: Duration,
    ) -> Result<Hold, StoreError> {
        self.inner.complete(attempt, record, ttl).await
    }

    async fn release(&self, attempt: &Attempt) -> Result<(), StoreError> {
        self.inner.release(attempt).await
    }

    async fn wait(&self, key: StoreKey, at_most: Duration) {
        self.inner.wait(key, at_most).await;
    }

    async fn read(&self, key: StoreKey) -> Result<KeyState, StoreError> {
        self.inner.read(key).await
    }

    async fn forget(&self, key: StoreKey, even_if_running: bool) -> Result<Forgotten, StoreError> {
        self.inner.forget(key, even_if_running).await
    }
}
