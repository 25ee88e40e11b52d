//! A layer that is part of the run: it commits what the handler has written, so a commit that fails must
//! not leave the handler's 201 to be replayed.
//!
//! `cargo run --example run_boundary`, then three times: 500 because the commit fails, 201, and a replay.
//!
//! ```text
//! curl -i 127.0.0.1:3000/payments -H 'idempotency-key: 8e03978e-40d5-43e8-bc93-6894a57f9324' -d 'order 7'
//! ```

use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering};

use axum::{
    Extension, Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::post,
};
use idempotent_axum::{RunBoundary, idempotent};
use tokio::sync::Mutex;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app(Arc::default())).await
}

pub(crate) fn app(ledger: Arc<Ledger>) -> Router {
    Router::new()
        .route("/payments", post(pay))
        .layer(from_fn_with_state(ledger, transaction))
        .layer(RunBoundary::new()) // after the layers that it puts into the run
}

#[idempotent]
async fn pay(Extension(rows): Extension<Rows>, order: String) -> StatusCode {
    rows.lock().await.push(order);
    StatusCode::CREATED
}

/// What a request writes, until it is committed.
type Rows = Arc<Mutex<Vec<String>>>;

/// Stands for a database whose first commit fails.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) rows: Mutex<Vec<String>>,
    is_up: AtomicBool,
}

async fn transaction(
    State(ledger): State<Arc<Ledger>>,
    mut request: Request,
    next: Next,
) -> Response {
    let rows = Rows::default();
    request.extensions_mut().insert(Arc::clone(&rows));
    let response = next.run(request).await;
    if !ledger.is_up.swap(true, Ordering::Relaxed) {
        return (StatusCode::INTERNAL_SERVER_ERROR, "the commit failed\n").into_response();
    }
    ledger.rows.lock().await.append(&mut *rows.lock().await);
    response
}
