//! [`IdempotencyKey`]: the key of the request, for the handler's body.

use std::{
    convert::Infallible,
    fmt,
    sync::{Arc, OnceLock},
};

use axum::extract::FromRequestParts;
use http::{Extensions, request::Parts};
use uuid::Uuid;

use super::{
    key::Key,
    scope::{Scope, store_key},
};
use crate::{
    engine::{Digesting, Fields, version},
    store::StoreKey,
};

/// The idempotency key of the request that the handler runs for.
///
/// An extractor that never rejects. Its value is there when the handler's body runs, not before:
/// other extractors run before the key is looked up.
///
/// ```
/// use idempotent_runtime::IdempotencyKey;
///
/// /// What a handler would do.
/// fn charge(key: &IdempotencyKey) -> String {
///     format!("idempotency-key: {}", key.derive("stripe"))
/// }
///
/// // A unit test makes one; the default has no key.
/// let key = IdempotencyKey::new("order-7");
/// assert_eq!(key.get(), Some("order-7"));
/// assert_eq!(charge(&key), charge(&IdempotencyKey::new("order-7")));
/// assert_eq!(IdempotencyKey::default().get(), None);
/// ```
#[derive(Clone, Default)]
pub struct IdempotencyKey(Arc<OnceLock<Value>>);

struct Value {
    key: String,
    store_key: StoreKey,
}

impl IdempotencyKey {
    /// The key of a request that a unit test pretends: without principal, of an operation without a
    /// name.
    #[must_use]
    pub fn new(key: &str) -> Self {
        let key = Key::exact(key);
        let store_key = store_key(&mut Scope::Named("").fields(), None, &key);
        let place = Self::default();
        place.set(key, store_key);
        place
    }

    /// The key, normalised (a UUID in lower case), or `None` if the request has none.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        self.0.get().map(|value| value.key.as_str())
    }

    /// A key for a call to another system, made of scope, principal, key and `label`.
    ///
    /// A retry gets the same UUID (version 8, RFC 9562 section 5.8), so that the other system
    /// recognises it. Give each call of a handler a label of its own. If the request has no key,
    /// the result is random.
    #[must_use]
    pub fn derive(&self, label: &str) -> Uuid {
        let Some(value) = self.0.get() else { return Uuid::new_v4() };
        let mut fields = Fields::new(version::DERIVED_KEY);
        fields.put(value.store_key.as_bytes());
        fields.put(label.as_bytes());
        uuid::Builder::from_custom_bytes(fields.digest(Digesting::Stable)).into_uuid()
    }

    /// The place for the key of the request with these extensions, still empty.
    ///
    /// A request that a handler makes of its own one's extensions gets a place of its own: it
    /// must not be known by the key of the other.
    pub(super) fn place(extensions: &mut Extensions) -> Self {
        Self::taken_place(extensions).unwrap_or_else(|| {
            let place = Self::default();
            extensions.insert(place.clone());
            place
        })
    }

    /// The place that an extractor has taken, still empty.
    pub(super) fn taken_place(extensions: &Extensions) -> Option<Self> {
        extensions.get::<Self>().filter(|place| place.get().is_none()).cloned()
    }

    /// Says what the key is, just before the body runs.
    pub(super) fn set(&self, key: Key, store_key: StoreKey) {
        // An empty place was given, and a request is looked up once.
        let _ = self.0.set(Value { key: key.into_text(), store_key });
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
