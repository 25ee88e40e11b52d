//! Sealing keys and the digest secret as settings: what is refused, and that they are never shown.

use idempotent_axum::{Idempotency, Sealing};
use idempotent_test_support::{Leased, fresh_key};

use super::{DIGEST, NEW, OLD, new, old, text};
use crate::nothing_leaks::witness::tells;

#[test]
#[should_panic(expected = "the id of a sealing key must have 1 to 255 bytes")]
fn an_empty_id_is_refused() {
    let _ = Sealing::new("", *NEW);
}

#[test]
#[should_panic(expected = "the id of a sealing key must have 1 to 255 bytes")]
fn an_id_that_does_not_fit_is_refused() {
    let _ = Sealing::new("x".repeat(255), *NEW).and_open("x".repeat(256), *OLD);
}

#[test]
#[should_panic(expected = "two sealing keys have the id \"2026-11\": give each its own id")]
fn one_id_for_two_keys_is_refused() {
    let _ = new().and_open("2026-11", *OLD);
}

#[test]
fn debug_shows_ids_and_no_key() {
    let settings = Idempotency::new(Leased::default());
    let shown = format!("{settings:?}");
    assert!(shown.contains("sealing: None") && shown.contains("keyed_digests: false"), "{shown}");

    let sealing = new().and_open("2026-10", *OLD).and_open_unsealed();
    let settings = settings.seal(sealing.clone()).digest_secret(*DIGEST);
    let operation = settings.operation("pay").key(fresh_key());
    for shown in [
        format!("{sealing:?} {settings:?} {operation:?}"),
        format!("{sealing:#?} {settings:#?} {operation:#?}"),
    ] {
        for expected in ["2026-10", "2026-11", "opens_unsealed: true", "keyed_digests: true"] {
            assert!(shown.contains(expected), "{shown}");
        }
        for secret in [OLD, NEW, DIGEST] {
            assert!(!tells(&shown, text(secret)), "{shown}");
        }
    }
    assert!(!format!("{:?}", old()).contains("2026-11"));
}
