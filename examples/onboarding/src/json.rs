//! JSON bodies, with errors in the service's own format.

use axum::{
    extract::FromRequest,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::error::Error;

/// [`axum::Json`], whose rejection is an [`Error`].
#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(Error))]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}
