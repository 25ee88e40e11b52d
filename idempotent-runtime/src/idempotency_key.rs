//! [`IdempotencyKey`]: the key of the request, for the handler's body.

use std::{
    convert::Infallible,
    fmt,
    sync::{Arc, OnceLock},
};

use axum::extract::FromRequestParts;
use http::{Extensions, request::Parts};
use uuid::Uuid;

use crate::{
    fields::{Fields, truncate, version},
    store::StoreKey,
};

/// The idempotency key of the request that the handler runs for.
///
/// An extractor that never rejects. Its value is there when the handler's body runs, not before:
/// other extractors run before the key is looked up.
#[derive(Clone, Default)]
pub struct IdempotencyKey(Arc<OnceLock<Value>>);

struct Value {
    key: String,
    store_key: StoreKey,
}

impl IdempotencyKey {
    /// The key, normalised (a UUID in lower case), or `None` where the request has none.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        self.0.get().map(|value| value.key.as_str())
    }

    /// A key for a call to another system, made of scope, principal, key and `label`.
    ///
    /// A retry gets the same UUID (version 8, RFC 9562 section 5.8), so that the other system
    /// recognises it. Give each call of a handler a label of its own. Where the request has no key
    /// the result is random.
    #[must_use]
    pub fn derive(&self, label: &str) -> Uuid {
        let Some(value) = self.0.get() else { return Uuid::new_v4() };
        let mut fields = Fields::new(version::DERIVED_KEY);
        fields.put(value.store_key.as_bytes());
        fields.put(label.as_bytes());
        uuid::Builder::from_custom_bytes(truncate(fields.hash())).into_uuid()
    }

    /// The place for the key of the request with these extensions, still empty.
    ///
    /// A request that a handler makes of its own one's extensions gets a place of its own: it
    /// must not be known by the key of the other.
    pub(crate) fn place(extensions: &mut Extensions) -> Self {
        match extensions.get::<Self>() {
            Some(place) if place.get().is_none() => place.clone(),
            _ => {
                let place = Self::default();
                extensions.insert(place.clone());
                place
            }
        }
    }

    /// Says what the key is, just before the body runs.
    pub(crate) fn set(&self, key: String, store_key: StoreKey) {
        // `place` gave an empty one, and a request is looked up once.
        let _ = self.0.set(Value { key, store_key });
    }
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::place(&mut parts.extensions))
    }
}

/// Never shows the key.
impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.get().is_some() { "set" } else { "none" };
        f.debug_tuple("IdempotencyKey").field(&format_args!("{state}")).finish()
    }
}
