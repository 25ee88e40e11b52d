//! Digests: what a store sees instead of keys, principals and requests.
//!
//! All of them are BLAKE3, keyed if the service has a digest secret, and truncated to 128 bits. To
//! hit someone else's digest, an attacker needs 2^128 work. A birthday attack takes 2^64, but only
//! lets callers collide with themselves, which gets them their own response or a 422, never a
//! second run.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct $name([u8; 16]);

        /// As a single number, which a hasher consumes in one step.
        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                state.write_u128(u128::from_ne_bytes(self.0));
            }
        }

        impl $name {
            /// The digest with these bytes, as read back by a store.
            ///
            /// ```
            /// # use idempotent_runtime::StoreKey;
            /// assert_eq!(StoreKey::from_bytes([0; 16]).to_string(), "0".repeat(32));
            /// ```
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The digest's bytes, as kept by a store.
            ///
            /// ```
            /// # use idempotent_runtime::StoreKey;
            /// assert_eq!(StoreKey::from_bytes([7; 16]).as_bytes(), &[7; 16]);
            /// ```
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", u128::from_be_bytes(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

digest! {
    /// Identifies one operation in a store: the digest of scope, principal and idempotency key.
    ///
    /// ```
    /// # use idempotent_runtime::{Idempotency, MemoryStore, StoreKey};
    /// let idempotency = Idempotency::new(MemoryStore::new());
    /// let digest: StoreKey = idempotency.operation("charge-card").key("message-1").digest();
    /// assert_eq!(digest, idempotency.operation("charge-card").key("message-1").digest());
    /// assert_ne!(digest, idempotency.operation("charge-card").key("message-2").digest());
    /// ```
    StoreKey
}

digest! {
    /// What must be equal for two requests with the same key to be the same request.
    ///
    /// ```
    /// # use idempotent_runtime::Fingerprint;
    /// let fingerprint = Fingerprint::from_bytes([0xab; 16]);
    /// assert_eq!(fingerprint.to_string(), "ab".repeat(16));
    /// ```
    Fingerprint
}
