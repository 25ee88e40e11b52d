//! The [`IdempotencyKey`] of a request, as an extractor.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::{Extensions, request::Parts};

use crate::engine::IdempotencyKey;

impl IdempotencyKey {
    /// The place for the key of the request with these extensions, still empty.
    ///
    /// A request that a handler builds from its own request's extensions gets a separate place: it
    /// must not be known by the other request's key.
    pub(super) fn place(extensions: &mut Extensions) -> Self {
        Self::taken_place(extensions).unwrap_or_else(|| {
            let place = Self::default();
            extensions.insert(place.clone());
            place
        })
    }

    /// The place that an extractor has already taken, still empty.
    pub(super) fn taken_place(extensions: &Extensions) -> Option<Self> {
        extensions.get::<Self>().filter(|place| place.get().is_none()).cloned()
    }
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::place(&mut parts.extensions))
    }
}
