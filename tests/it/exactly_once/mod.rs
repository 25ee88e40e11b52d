//! Guarantee *Exactly once, in PostgreSQL*: what a handler writes with `Tx`, its claim and its
//! response are committed together or not at all, on real servers.

pub(crate) mod bank;
mod beside_plain;
mod boundary;
mod boundary_in_detail;
mod cost;
mod duplicates;
mod isolation;
mod jobs;
#[cfg(feature = "failpoints")]
mod lost_commits;
mod misuse;
mod outcomes;
mod sessions;
mod together;

use std::time::{Duration, Instant};

use idempotent_test_support::PATIENCE;

use bank::{App, Bank, insert};

/// Polls until `so` holds.
async fn until(what: &str, so: impl Fn() -> bool) {
    let since = Instant::now();
    while !so() {
        assert!(since.elapsed() < PATIENCE, "it does not come to be so: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
