//! Sealing: records in a shared store that only holders of the key can read or create.
//!
//! `sealed` is the layout and the cipher; this file decides which key is used, and what is refused.

mod sealed;
mod seldom;

use std::{fmt, sync::Arc};

use bytes::Bytes;

use self::{
    sealed::{Key, Place, Sealed},
    seldom::Seldom,
};
use super::record::{Envelope, Unreadable};
use crate::store::{Attempt, Fingerprint, StoreError, StoreKey};

/// The keys that a service's stored responses are sealed and opened with:
/// [`Idempotency::seal`](crate::Idempotency::seal).
///
/// A key is 32 random bytes, kept where your service keeps its other secrets. Its id is a text of 1
/// to 255 bytes that identifies it: it is stored in plaintext with each record, and must never be
/// reused for another key. Keys are wiped from memory when they are dropped, and are never shown.
///
/// ```
/// use idempotent_runtime::Sealing;
///
/// # let (key, old_key) = ([7; 32], [8; 32]);
/// let sealing = Sealing::new("2026-11", key).and_open("2026-10", old_key);
/// assert_eq!(
///     format!("{sealing:?}"),
///     r#"Sealing { seals: "2026-11", opens: ["2026-11", "2026-10"], opens_unsealed: false }"#
/// );
/// ```
#[derive(Clone)]
pub struct Sealing {
    /// The first one seals.
    keys: Vec<Key>,
    opens_unsealed: bool,
}

impl Sealing {
    /// Seals with this key, and opens what was sealed with it.
    ///
    /// ```
    /// # use idempotent_runtime::Sealing;
    /// let sealing = Sealing::new("2026-11", [7; 32]); // 32 random bytes
    /// assert!(!format!("{sealing:?}").contains("7, 7"));
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if `id` is empty or longer than 255 bytes.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>, key: [u8; 32]) -> Self {
        Self { keys: Vec::new(), opens_unsealed: false }.and_open(id, key)
    }

    /// Also opens what was sealed with this key: the previous one, or the next one that other
    /// instances may already be sealing with.
    ///
    /// ```
    /// # use idempotent_runtime::Sealing;
    /// # let (key, next) = ([7; 32], [8; 32]);
    /// // The first of the two roll-outs that change the key.
    /// let sealing = Sealing::new("2026-11", key).and_open("2026-12", next);
    /// assert!(format!("{sealing:?}").contains(r#"opens: ["2026-11", "2026-12"]"#));
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if `id` is empty or longer than 255 bytes, or another key has it.
    #[must_use]
    pub fn and_open(mut self, id: impl Into<Arc<str>>, key: [u8; 32]) -> Self {
        let key = Key::new(id.into(), key);
        assert!(
            self.keys.iter().all(|other| other.id() != key.id()),
            "two sealing keys have the id {:?}: give each its own id",
            key.id()
        );
        self.keys.push(key);
        self
    }

    /// Also reads records that are not sealed: those from before the service sealed.
    ///
    /// Use it while you roll out sealing, and for one `ttl` after that. As long as it is on, anyone
    /// who can write to the store can put an unsealed record there, so turn it off again.
    ///
    /// ```
    /// # use idempotent_runtime::Sealing;
    /// let sealing = Sealing::new("2026-11", [7; 32]).and_open_unsealed();
    /// assert!(format!("{sealing:?}").contains("opens_unsealed: true"));
    /// ```
    #[must_use]
    pub fn and_open_unsealed(self) -> Self {
        Self { opens_unsealed: true, ..self }
    }
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.keys.iter().map(Key::id).collect();
        f.debug_struct("Sealing")
            .field("seals", &ids[0])
            .field("opens", &ids)
            .field("opens_unsealed", &self.opens_unsealed)
            .finish()
    }
}

/// How the records of an engine are sealed, if they are.
#[derive(Clone, Default)]
pub(crate) struct Seals {
    sealing: Option<Arc<Sealing>>,
    refused: Arc<Seldom>,
}

impl Seals {
    pub(crate) fn set(&mut self, sealing: Sealing) {
        self.sealing = Some(Arc::new(sealing));
    }

    pub(crate) fn sealing(&self) -> Option<&Sealing> {
        self.sealing.as_deref()
    }

    pub(super) fn is_on(&self) -> bool {
        self.sealing.is_some()
    }

    /// This process's record, sealed for this attempt; `None` if nothing is sealed.
    pub(super) fn seal(
        &self,
        attempt: &Attempt,
        record: &Bytes,
    ) -> Option<Result<Bytes, StoreError>> {
        let sealing = self.sealing.as_ref()?;
        let place = Place { key: attempt.key, fingerprint: attempt.fingerprint };
        Some(sealing.keys[0].seal(place, &Envelope::of_own(record)))
    }

    /// Opens a record that was found under `key` with `fingerprint`.
    pub(super) fn open(
        &self,
        key: StoreKey,
        fingerprint: Fingerprint,
        envelope: Envelope,
    ) -> Result<Envelope, Unreadable> {
        let sealing = self.sealing.as_deref();
        let is_strict = sealing.is_some_and(|sealing| !sealing.opens_unsealed);
        if is_strict && envelope.is_plain() {
            return Err(self.refuse_unsealed());
        }
        if !envelope.is_sealed() {
            return Ok(envelope);
        }
        let Some(Sealed { id, payload }) = Sealed::read(envelope.payload()) else {
            return Err(Unreadable::Corrupt);
        };
        let keys = sealing.map_or(&[][..], |sealing| &sealing.keys);
        let Some(with) = keys.iter().find(|key| key.id().as_bytes() == id) else {
            return Err(self.refuse_unknown(id));
        };
        let opened = with.open(Place { key, fingerprint }, &envelope, payload);
        opened.map(|payload| envelope.opened(payload))
    }

    #[cold]
    fn refuse_unknown(&self, id: &[u8]) -> Unreadable {
        if let Some(times) = self.refused.tell() {
            tracing::error!(
                target: crate::TARGET,
                key_id = %id.escape_ascii(),
                times,
                "a stored response is sealed with a key that this service does not have: requests with \
                 its idempotency key get 503. Give the key to `Sealing::and_open`"
            );
        }
        Unreadable::NotAdmitted
    }

    #[cold]
    fn refuse_unsealed(&self) -> Unreadable {
        if let Some(times) = self.refused.tell() {
            tracing::error!(
                target: crate::TARGET,
                times,
                "a stored response is not sealed: requests with its idempotency key get 503. If it is \
                 from before this service sealed, use `Sealing::and_open_unsealed` until it expires"
            );
        }
        Unreadable::NotAdmitted
    }
}
