//! Who calls: the bearer token (RFC 6750).

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};

use crate::error::Error;

/// The client that a request's bearer token names.
///
/// Every token that is not empty is accepted, and is the client's id. A real service looks the
/// token up. The id, not the token, then belongs into `principal`: a retry may come with the next
/// token.
pub(crate) struct Client {
    pub(crate) id: String,
}

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        let value = parts.headers.get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
        let (scheme, token) = value.and_then(|it| it.split_once(' ')).unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
            return Err(Error::Unauthorized);
        }
        Ok(Self { id: token.trim().to_owned() })
    }
}
