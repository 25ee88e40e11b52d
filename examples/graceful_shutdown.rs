//! A shutdown that loses nothing: no new connections, then the handlers whose callers have left, but not
//! for longer than the orchestrator allows.
//!
//! `cargo run --example graceful_shutdown`; send a request, leave it with Ctrl-C, and stop the service with
//! Ctrl-C or `kill`: it ends once the report is written.
//!
//! ```text
//! curl 127.0.0.1:3000/reports -H 'idempotency-key: 8e03978e-40d5-43e8-bc93-6894a57f9324' -d 'november'
//! ```

use std::{io, process::ExitCode, time::Duration};

use axum::{Router, http::StatusCode, routing::post};
use idempotent_axum::{Idempotency, MemoryStore, Undrained, idempotent};
use tokio::net::TcpListener;
use tokio::signal::{self, unix};

/// Less than Kubernetes' `terminationGracePeriodSeconds`, 30 by default.
const GRACE: Duration = Duration::from_secs(25);

#[tokio::main]
async fn main() -> io::Result<ExitCode> {
    let idempotency = Idempotency::new(MemoryStore::new());
    let routes = Router::new().route("/reports", post(report));
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    let mut terminate = unix::signal(unix::SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    };
    let left = serve(listener, routes, idempotency, stop, GRACE).await?;
    if left.runs + left.background > 0 {
        eprintln!("cut off: {left:?}");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

#[idempotent]
async fn report(month: String) -> (StatusCode, String) {
    tokio::time::sleep(Duration::from_secs(10)).await; // stands for the work
    (StatusCode::CREATED, format!("the report of {month}\n"))
}

/// Serves until `stop`, and gives what is still going on `grace` after the last connection has closed.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: Router,
    idempotency: Idempotency,
    stop: impl Future<Output = ()> + Send + 'static,
    grace: Duration,
) -> io::Result<Undrained> {
    let app = routes.layer(idempotency.clone());
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    // A handler whose caller has left runs on in a task of its own, which `serve` does not wait for.
    Ok(idempotency.drain_for(grace).await)
}
