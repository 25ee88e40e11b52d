//! One format for all errors: those of the library are turned into the service's own.
//!
//! `cargo run --example custom_errors`, then with a key that is not a UUID, and with none:
//!
//! ```text
//! curl -i 127.0.0.1:3000/transfers -H 'idempotency-key: 7' -d '100'
//! curl -i 127.0.0.1:3000/transfers -d '100'
//! ```

use axum::{
    Json, Router,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use idempotent_axum::{Idempotency, MemoryStore, Problem, idempotent};
use serde_json::json;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app(Idempotency::new(MemoryStore::new()))).await
}

pub(crate) fn app(idempotency: Idempotency) -> Router {
    // A `Retry-After` is added to what this returns, so it need not be copied.
    let idempotency = idempotency.error_response(ApiError::from);
    Router::new().route("/transfers", post(transfer)).layer(idempotency)
}

/// A client looks at the code, a person reads the message.
struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        let (status, code) = (problem.status(), problem.code().as_str());
        Self { status, code, message: problem.detail().to_owned() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = json!({ "error": { "code": self.code, "message": self.message } });
        (self.status, Json(error)).into_response()
    }
}

#[idempotent(required)]
async fn transfer(cents: String) -> Result<(StatusCode, String), ApiError> {
    let cents: u64 = cents.parse().map_err(|_| ApiError {
        status: StatusCode::UNPROCESSABLE_ENTITY,
        code: "invalid_amount",
        message: "The amount must be a whole number of cents".to_owned(),
    })?;
    Ok((StatusCode::CREATED, format!("transferred {cents} cents\n")))
}
