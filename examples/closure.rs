//! A route that is a closure, which no attribute can stand on: it runs its work by hand.
//!
//! `cargo run --example closure`, then `curl -X POST -d 'Ada' 127.0.0.1:3000/greetings/1`

use axum::{
    Json, Router,
    extract::Path,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::post,
};
use idempotent_axum::{Idempotency, MemoryStore, RunError};
use std::convert::Infallible;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app(Idempotency::new(MemoryStore::new()), || println!("greeting"))).await
}

/// Calls `greeted` once for each id.
pub(crate) fn app(
    idempotency: Idempotency,
    greeted: impl Fn() + Clone + Send + Sync + 'static,
) -> Router {
    let greet = move |Path(id): Path<String>, name: String| {
        let key = idempotency.operation("greet").key_exact(id).fingerprint(&name);
        let work = {
            let greeted = greeted.clone();
            async move |_| {
                greeted();
                Ok::<_, Infallible>(format!("Hello {name}"))
            }
        };
        async move {
            match key.run(work).await {
                Ok(done) => Json(done.value).into_response(),
                Err(error) => refused(&error),
            }
        }
    };
    Router::new().route("/greetings/{id}", post(greet))
}

fn refused(error: &RunError<Infallible>) -> Response {
    let status = match error {
        RunError::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        error if error.is_worth_retrying() => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::CONFLICT,
    };
    (status, error.to_string()).into_response()
}
