//! Handlers in an OpenAPI document: what it says of the key, the errors and the replay.

#[cfg(feature = "utoipa")]
mod attribute;
