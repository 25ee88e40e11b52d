//! [`Outage`]: whether the store is unreachable, reported once when it begins and once when it
//! ends.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::store::StoreError;

/// A store that fails some calls and answers others counts as unreachable until no call has failed
/// for this long.
const QUIET: Duration = Duration::from_secs(1);

/// The calls that have failed since the store was last healthy.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// Whether there is an outage: all that a call checks while there is none.
    is_on: AtomicBool,
    failures: Mutex<Option<Failures>>,
}

#[derive(Debug)]
struct Failures {
    since: Instant,
    last: Instant,
    calls: u64,
}

impl Outage {
    /// A call to the store failed.
    pub(super) fn failed(&self, error: &StoreError) {
        let now = Instant::now();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failures) = &mut *failures {
            failures.calls += 1;
            failures.last = now;
            return;
        }
        *failures = Some(Failures { since: now, last: now, calls: 1 });
        self.is_on.store(true, Ordering::Relaxed);
        drop(failures);
        if !error.is_logged_once() {
            tracing::error!(
                target: crate::TARGET,
                error = error as &dyn std::error::Error,
                "idempotency store unavailable"
            );
        }
    }

    /// The store answered a call.
    pub(super) fn answered(&self) {
        if self.is_on.load(Ordering::Relaxed) {
            self.end();
        }
    }

    #[cold]
    fn end(&self) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.as_ref().is_none_or(|failures| failures.last.elapsed() < QUIET) {
            return;
        }
        self.is_on.store(false, Ordering::Relaxed);
        let Some(Failures { since, calls, .. }) = failures.take() else { return };
        tracing::info!(
            target: crate::TARGET,
            failed_calls = calls,
            seconds = since.elapsed().as_secs(),
            "idempotency store available again"
        );
    }
}
