//! What can go wrong with a request, and how the caller is told.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("send your token in the header `Authorization: Bearer <token>`")]
    Unauthorized,
    #[error("a payment has an account, an amount above 0, and a currency such as `EUR`")]
    InvalidPayment,
    #[error("the database failed, try again with the same key")]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error() {
            // The table says what a payment is.
            Some(refusal) if refusal.is_check_violation() => Self::InvalidPayment,
            _ => Self::Database(error),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, code) = match &self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::InvalidPayment => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_payment"),
            Self::Database(error) => {
                tracing::error!(%error, "the database failed");
                (StatusCode::INTERNAL_SERVER_ERROR, "database_failed")
            }
        };
        (status, Json(json!({"code": code, "detail": self.to_string()}))).into_response()
    }
}
