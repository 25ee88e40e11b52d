//! What can go wrong with a request, and how the caller is told.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use idempotent_axum::TxError;
use serde_json::json;

#[derive(Debug)]
pub(crate) enum Error {
    Unauthorized,
    InvalidPayment,
    Database(sqlx::Error),
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
        let (status, code, detail) = match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "send a bearer token"),
            Self::InvalidPayment => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid_payment",
                "a payment has an account, an amount above 0, and a currency such as `EUR`",
            ),
            // 503 if it may succeed another time.
            Self::Database(error) => return TxError::from(error).into_response(),
        };
        (status, Json(json!({"code": code, "detail": detail}))).into_response()
    }
}
