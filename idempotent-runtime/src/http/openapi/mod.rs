//! What an OpenAPI document says about an `#[idempotent]` handler: the key's headers ([`Key`]), the
//! errors ([`Problems`]) and the replay marker.
//!
//! With the feature `utoipa`, an attribute above `#[utoipa::path]` adds all of this on its own.
//! With the feature `aide`, [`Idempotent`](crate::Idempotent) is an `OperationInput` that does.

// `document` builds the content once, as JSON; `utoipa` and `aide` pass it to those crates.
#[cfg(feature = "aide")]
mod aide;
mod document;
mod key;
mod problems;
#[cfg(feature = "utoipa")]
mod utoipa;

#[cfg(feature = "utoipa")]
#[doc(hidden)]
pub use self::utoipa::{Described, KeyOf};
pub use self::{key::Key, problems::Problems};
