//! Each store against the conformance suite and the faults of its server.
#![cfg(feature = "testing")]

#[cfg(feature = "memory")]
mod conformance;
#[cfg(all(feature = "memory", feature = "postgres", feature = "redis", feature = "sqlite"))]
mod histories;
mod leases;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;

use bytes::Bytes;
use idempotent_runtime::{Attempt, Fingerprint, Hold, Store, StoreError, StoreKey, Token, testing};

const FINGERPRINT: Fingerprint = Fingerprint::from_bytes([7; 16]);
const RECORD: Bytes = Bytes::from_static(b"record");
/// The error of a call that certainly reached no server.
const NOT_SENT: &str = "the idempotency store could not be reached";
/// The error for an entry that this release cannot read.
const FOREIGN: &str = "the key holds an entry that this release cannot read";

fn fresh_key() -> StoreKey {
    StoreKey::from_bytes(*Token::random().as_bytes())
}

/// An attempt at a key that nobody has used.
fn fresh() -> Attempt {
    at(fresh_key())
}

/// A new attempt at `key`.
fn at(key: StoreKey) -> Attempt {
    Attempt::new(key, FINGERPRINT, Token::random())
}

/// Whether an answer says that the token holds its key.
#[track_caller]
fn is_held(answer: Result<Hold, StoreError>) -> bool {
    answer.expect("the server answers") == Hold::Held
}

/// Asserts that an error and its sources say nothing twice.
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
#[track_caller]
fn assert_told_once(error: &dyn std::error::Error) {
    let all: Vec<_> = std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect();
    assert!(all.len() > 1, "it has a source: {all:?}");
    for (earlier, text) in all
        .iter()
        .enumerate()
        .flat_map(|(at, text)| all[..at].iter().map(move |earlier| (earlier, text)))
    {
        assert!(!earlier.contains(text.as_str()), "told twice: {all:?}");
    }
}

/// Asserts that the conformance suite fails `store`, and says so in these words.
async fn assert_found(store: impl Store, words: &str) {
    let error = tokio::spawn(testing::conformance(store))
        .await
        .expect_err("the suite accepts a broken store");
    let panic = error.into_panic();
    let text = panic.downcast_ref::<String>().cloned();
    let text =
        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
    assert!(text.contains(words), "{text}");
}
