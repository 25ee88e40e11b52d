//! The settings that keep secrets from anyone who can read or write the store.

use super::idempotency::Idempotency;
#[cfg(feature = "seal")]
use crate::engine::Sealing;
use crate::engine::{DigestSecret, Digesting};

impl Idempotency {
    /// Seals the responses and job values in a shared store: XChaCha20-Poly1305 with a random nonce
    /// for each. Default: plaintext.
    ///
    /// A record opens only under the key and the fingerprint that it was stored with. A record that
    /// does not open is a 409 `outcome_unknown`. One sealed with a key that `sealing` does not have
    /// is a 503, and so is an unsealed one, unless [`Sealing::and_open_unsealed`] allows it. Each
    /// of these is an error in the log, and none of them runs a handler.
    ///
    /// A `MemoryStore` is in the process that has the keys, so nothing is sealed there. [Sealing
    /// and keyed digests] explains what this protects from, and how to rotate the key without
    /// downtime.
    ///
    /// [Sealing and keyed digests]: https://docs.rs/idempotent-axum/latest/idempotent_axum/sealing/
    ///
    /// ```
    /// use idempotent_runtime::{Idempotency, Sealing};
    ///
    /// # let (key, old_key) = ([7; 32], [8; 32]);
    /// # let store = idempotent_runtime::MemoryStore::new();
    /// let sealing = Sealing::new("2026-11", key).and_open("2026-10", old_key);
    /// let idempotency = Idempotency::new(store).seal(sealing);
    /// assert!(format!("{idempotency:?}").contains(r#"seals: "2026-11""#));
    /// ```
    #[cfg(feature = "seal")]
    #[must_use]
    pub fn seal(self, sealing: Sealing) -> Self {
        self.set_engine(|engine| engine.seals.set(sealing))
    }

    /// Keys all digests and fingerprints with `secret`, 32 random bytes: the store keys, by which
    /// logs identify keys, the fingerprints in a shared store, and the result of
    /// [`IdempotencyKey::derive`](crate::IdempotencyKey::derive). Default: none.
    ///
    /// Anyone who can read the store or the logs then cannot find out by guessing which principal,
    /// key or body a digest stands for. All instances that share a store need the same secret, and
    /// it is permanent: with a different one every key is a new key. [Sealing and keyed digests]
    /// explains how to change it nevertheless. It is wiped from memory when the last handle to it
    /// is dropped, and never shown.
    ///
    /// [Sealing and keyed digests]: https://docs.rs/idempotent-axum/latest/idempotent_axum/sealing/
    ///
    /// ```
    /// # use idempotent_runtime::{Idempotency, MemoryStore};
    /// # let [secret, other] = [[1; 32], [2; 32]];
    /// let digest = |idempotency: &Idempotency| idempotency.operation("login").key("ann").digest();
    /// let plain = Idempotency::new(MemoryStore::new());
    /// let keyed = plain.clone().digest_secret(secret);
    /// assert_ne!(digest(&keyed), digest(&plain));
    /// assert_ne!(digest(&keyed), digest(&plain.digest_secret(other)));
    /// ```
    #[must_use]
    pub fn digest_secret(self, secret: [u8; 32]) -> Self {
        let secret = DigestSecret::new(secret);
        self.set_engine(|engine| engine.digesting = Digesting::Keyed(secret))
    }
}
