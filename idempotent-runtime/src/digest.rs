//! Digests: what a store sees instead of keys, principals and requests.
//!
//! All of them are BLAKE3, truncated to 128 bits. An attacker would need 2^128 work to meet
//! somebody else's digest; the 2^64 of a birthday attack only lets a caller collide with itself,
//! which gets it its own response or a 422, never a second run.

use std::fmt;

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name([u8; 16]);

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

        impl From<blake3::Hash> for $name {
            fn from(hash: blake3::Hash) -> Self {
                Self(truncate(hash))
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

/// The first 128 bits of a hash.
pub(crate) fn truncate(hash: blake3::Hash) -> [u8; 16] {
    let (short, _) = hash.as_bytes().split_at(16);
    std::array::from_fn(|index| short[index])
}

/// A list of fields to be hashed, each with its length in front: no two lists give the same bytes.
pub(crate) struct Fields(Vec<u8>);

impl Fields {
    /// Room for the fields of a usual request without a second allocation.
    const CAPACITY: usize = 256;

    /// An empty list. `version` tells what it is for: a new way to list the fields is a new one.
    pub(crate) fn new(version: u8) -> Self {
        let mut bytes = Vec::with_capacity(Self::CAPACITY);
        bytes.push(version);
        Self(bytes)
    }

    pub(crate) fn put(&mut self, field: &[u8]) {
        self.put_length(field.len());
        self.0.extend_from_slice(field);
    }

    /// One byte, as nearly all fields are short; nine where they are not.
    fn put_length(&mut self, length: usize) {
        match u8::try_from(length) {
            Ok(short) if short < u8::MAX => self.0.push(short),
            _ => {
                self.0.push(u8::MAX);
                self.0.extend_from_slice(&(length as u64).to_le_bytes());
            }
        }
    }

    pub(crate) fn hash(&self) -> blake3::Hash {
        blake3::hash(&self.0)
    }

    /// The hash of the fields and one more, which is not copied where it is long.
    pub(crate) fn hash_with(mut self, last: &[u8]) -> blake3::Hash {
        self.put_length(last.len());
        if last.len() <= self.0.capacity() - self.0.len() {
            self.0.extend_from_slice(last);
            return self.hash();
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0).update(last);
        hasher.finalize()
    }
}

/// What a list of [`Fields`] is for.
pub(crate) mod version {
    pub(crate) const STORE_KEY: u8 = 1;
    pub(crate) const REQUEST_FINGERPRINT: u8 = 2;
    pub(crate) const EXPRESSION_FINGERPRINT: u8 = 3;
    pub(crate) const DERIVED_KEY: u8 = 4;
}
