//! Counts what is evicted early.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Counts records evicted before their ttl, and logs the count at most every ten seconds.
#[derive(Default)]
pub(super) struct Evictions {
    count: AtomicU64,
    last_logged: Mutex<Option<Instant>>,
}

impl Evictions {
    const LOG_EVERY: Duration = Duration::from_secs(10);

    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn add_one(&self) {
        let evicted = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let now = Instant::now();
        let mut last = self.last_logged.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| now.duration_since(last) >= Self::LOG_EVERY) {
            *last = Some(now);
            drop(last);
            tracing::warn!(
                target: crate::TARGET,
                evicted,
                "stored responses are evicted before their ttl: raise `MemoryStore`'s `max_bytes`, \
                 or their requests run again when retried"
            );
        }
    }
}
