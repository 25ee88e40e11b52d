//! Who calls: the bearer token (RFC 6750).

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};

use crate::error::Error;

/// The client that a request's bearer token names.
///
/// Every token that is not empty is accepted, and is the client's id. A real service looks the
/// token up. The id, not the token, is then what belongs into `principal`: tokens change, and a
/// retry may come with the next one.
pub(crate) struct Client {
    pub(crate) id: String,
}

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        match authorization.and_then(|value| value.split_once(' ')) {
            Some((scheme, token))
                if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() =>
            {
                Ok(Self { id: token.trim().to_owned() })
            }
            _ => Err(Error::Unauthorized),
        }
    }
}
