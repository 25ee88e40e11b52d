//! Digests: what a store sees instead of keys, principals and requests.
//!
//! All of them are BLAKE3, keyed if the service has a digest secret, and truncated to 128 bits. An
//! attacker would need 2^128 work to meet somebody else's digest; the 2^64 of a birthday attack only
//! lets a caller collide with itself, which gets it its own response or a 422, never a second run.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct $name([u8; 16]);

        /// As one number: a hasher takes that in one step.
        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                state.write_u128(u128::from_ne_bytes(self.0));
            }
        }

        impl $name {
            /// The digest with these bytes, as a store reads it back.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The digest's bytes, as a store keeps it.
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
    /// Names one operation in a store: the digest of scope, principal and idempotency key.
    StoreKey
}

digest! {
    /// What must be equal for two requests with one key to be the same request.
    Fingerprint
}
