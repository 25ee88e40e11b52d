//! What a store keeps under `seal` and `digest_secret`: nothing that can be read or guessed,
//! nothing that opens elsewhere, and keys that change without downtime.
//!
//! `keys` are the settings, `records` opens what it should and refuses the rest, `moved` changes
//! rows in a real server, `roll_over` changes the key under load; `digests` names keys with and
//! without the secret, `pins` guesses them, and `dumps` reads everything that a server holds.

mod digests;
#[cfg(all(feature = "redis", feature = "postgres"))]
mod dump;
#[cfg(all(feature = "redis", feature = "postgres"))]
mod dumps;
mod keys;
#[cfg(feature = "postgres")]
mod moved;
#[cfg(all(feature = "redis", feature = "postgres"))]
mod pins;
mod records;
#[cfg(all(feature = "redis", feature = "postgres"))]
mod roll_over;

use idempotent_axum::Sealing;

/// Texts, so that they can be looked for in every form.
const OLD: &[u8; 32] = b"the sealing key of October, 26!!";
const NEW: &[u8; 32] = b"the sealing key of November, 202";
const DIGEST: &[u8; 32] = b"this is what keys the digests!!!";

fn text(secret: &[u8; 32]) -> &str {
    std::str::from_utf8(secret).expect("the secrets of tests are texts")
}

fn old() -> Sealing {
    Sealing::new("2026-10", *OLD)
}

fn new() -> Sealing {
    Sealing::new("2026-11", *NEW)
}
