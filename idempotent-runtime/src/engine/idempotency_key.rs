//! [`IdempotencyKey`]: the key that work runs under, as the work sees it.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use uuid::Uuid;

use super::{
    fields::{Digesting, Fields, version},
    key::{Key, operation, store_key},
};
use crate::store::StoreKey;

/// The idempotency key of the request that the handler runs for.
///
/// An extractor that never rejects. Its value is available once the handler's body runs, not
/// before: other extractors run before the key is looked up.
///
/// ```
/// use idempotent_runtime::IdempotencyKey;
///
/// /// What a handler would do.
/// fn charge(key: &IdempotencyKey) -> String {
///     format!("idempotency-key: {}", key.derive("stripe"))
/// }
///
/// // A unit test creates one; the default has no key.
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
    digesting: Digesting,
}

impl IdempotencyKey {
    /// A key for unit tests, without a principal and of an operation without a name.
    ///
    /// ```
    /// # use idempotent_runtime::IdempotencyKey;
    /// assert_eq!(IdempotencyKey::new("order-7").get(), Some("order-7"));
    /// ```
    #[must_use]
    pub fn new(key: &str) -> Self {
        let key = Key::exact(key);
        let digesting = Digesting::Stable;
        let store_key = store_key(&mut operation(""), None, &key, &digesting);
        let place = Self::default();
        place.set(key, store_key, digesting);
        place
    }

    /// The key, normalised (a UUID in lower case), or `None` if the request has none.
    ///
    /// ```
    /// # use idempotent_runtime::IdempotencyKey;
    /// let key = IdempotencyKey::new("order-7");
    /// assert_eq!(key.get(), Some("order-7"));
    /// assert_eq!(IdempotencyKey::default().get(), None);
    /// ```
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        self.0.get().map(|value| value.key.as_str())
    }

    /// A key for a call to another system, derived from scope, principal, key and `label`.
    ///
    /// A retry gets the same UUID (version 8, RFC 9562 section 5.8), so that the other system
    /// recognises it. Use a different label for each call that a handler makes. If the request has
    /// no key, the result is random. A different
    /// [`digest_secret`](crate::Idempotency::digest_secret) gives a different UUID.
    ///
    /// ```
    /// # use idempotent_runtime::IdempotencyKey;
    /// let key = IdempotencyKey::new("order-7");
    /// assert_eq!(key.derive("stripe"), key.derive("stripe"));
    /// assert_ne!(key.derive("stripe"), key.derive("sendgrid"));
    /// ```
    #[must_use]
    pub fn derive(&self, label: &str) -> Uuid {
        let Some(value) = self.0.get() else { return Uuid::new_v4() };
        let mut fields = Fields::new(version::DERIVED_KEY);
        fields.put(value.store_key.as_bytes());
        fields.put(label.as_bytes());
        uuid::Builder::from_custom_bytes(fields.digest(&value.digesting)).into_uuid()
    }

    /// Sets the key, just before the body runs.
    pub(crate) fn set(&self, key: Key, store_key: StoreKey, digesting: Digesting) {
        // The place is empty, and a request is looked up only once.
        let _ = self.0.set(Value { key: key.into_text(), store_key, digesting });
    }
}

/// Never shows the key.
impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.get().is_some() { "set" } else { "none" };
        f.debug_tuple("IdempotencyKey").field(&format_args!("{state}")).finish()
    }
}
