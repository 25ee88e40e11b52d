//! Each store against the conformance suite and the faults of its server.
#![cfg(feature = "testing")]

#[cfg(feature = "memory")]
mod conformance;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;

use bytes::Bytes;
use idempotent_runtime::{Attempt, Fingerprint, Hold, StoreError, StoreKey, Token};

const FINGERPRINT: Fingerprint = Fingerprint::from_bytes([7; 16]);
const RECORD: Bytes = Bytes::from_static(b"record");
/// What a call says that certainly reached no server.
const NOT_SENT: &str = "the idempotency store could not be reached";
/// What a call says of an entry that this release cannot read.
const FOREIGN: &str = "the key holds an entry that this release cannot read";

fn fresh_key() -> StoreKey {
    StoreKey::from_bytes(*Token::random().as_bytes())
}

/// An attempt at a key that nobody has used.
fn fresh() -> Attempt {
    at(fresh_key())
}

/// Somebody's attempt at `key`.
fn at(key: StoreKey) -> Attempt {
    Attempt::new(key, FINGERPRINT, Token::random())
}

/// Whether an answer says that the token holds its key.
#[track_caller]
fn is_held(answer: Result<Hold, StoreError>) -> bool {
    answer.expect("the server answers") == Hold::Held
}
