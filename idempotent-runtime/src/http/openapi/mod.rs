//! What an OpenAPI document says of an `#[idempotent]` handler: the key's headers ([`Key`]), the errors
//! ([`Problems`]) and the marker of a replay.
//!
//! The text is made once, as JSON (`document`); `utoipa` and `aide` hand it to those crates.
//!
//! With the feature `utoipa`, an attribute above `#[utoipa::path]` adds all of this by itself. With the
//! feature `aide`, [`Idempotent`](crate::Idempotent) is an `OperationInput` that does.

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
