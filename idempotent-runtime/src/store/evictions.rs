//! Counts what is evicted early.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Counts records evicted before their ttl, and logs the count at most every ten seconds.
pub(super) struct Evictions {
    /// The name of the store, as its users know it.
    store: &'static str,
    count: AtomicU64,
    told: AtomicU64,
    last_logged: Mutex<Option<Instant>>,
}

impl Evictions {
    const LOG_EVERY: Duration = Duration::from_secs(10);

    pub(super) fn of(store: &'static str) -> Self {
        Self {
            store,
            count: AtomicU64::new(0),
            told: AtomicU64::new(0),
            last_logged: Mutex::default(),
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, more: u64) {
        self.count.fetch_add(more, Ordering::Relaxed);
    }

    /// Logs how many there were, unless that has just been done or there is nothing new.
    pub(super) fn tell(&self) {
        let evicted = self.count();
        if evicted == self.told.load(Ordering::Relaxed) {
            return;
        }
        let now = Instant::now();
        let mut last = self.last_logged.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| now.duration_since(last) >= Self::LOG_EVERY) {
            *last = Some(now);
            self.told.store(evicted, Ordering::Relaxed);
            drop(last);
            tracing::warn!(
                target: crate::TARGET,
                evicted,
                "stored responses are evicted before their ttl: raise `{}`'s `max_bytes`, or their \
                 requests run again when retried",
                self.store
            );
        }
    }
}
