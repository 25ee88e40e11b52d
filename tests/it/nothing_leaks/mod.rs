//! Guarantee *Nothing leaks*: no replay crosses principals or scopes, and stores and logs see
//! digests, never a key or a principal.

mod isolation;
mod secrets;
pub(crate) mod witness;
