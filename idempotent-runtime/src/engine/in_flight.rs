//! Counts work in progress, so that a shutdown can wait for it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use super::gauge::{Gauge, Gauged};

/// Counts the work in progress, and what remains to be done for finished work.
///
/// A run counts from its start, not only once its caller has gone: a server may have stopped before
/// it drops the connection that the run depends on.
#[derive(Debug, Clone, Default)]
pub(super) struct InFlight(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    runs: AtomicUsize,
    /// The runs whose callers have gone.
    detached: AtomicUsize,
    /// The same by operation: few, and rarely read.
    by_operation: Mutex<BTreeMap<Arc<str>, usize>>,
    background: AtomicUsize,
    /// Notified when the last one of a kind has finished.
    none_left: Notify,
}

/// What was still in progress when a [`drain_for`](crate::Idempotency::drain_for) ended.
///
/// ```
/// use std::time::Duration;
///
/// use idempotent_runtime::{Idempotency, MemoryStore};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let left = Idempotency::new(MemoryStore::new()).drain_for(Duration::from_secs(10)).await;
/// assert_eq!((left.runs, left.background), (0, 0));
/// # });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Undrained {
    /// Handlers that were running.
    pub runs: usize,
    /// Responses not stored yet, and keys not released yet.
    pub background: usize,
}

impl InFlight {
    /// Counts one more run until the guard is dropped.
    pub(super) fn run(&self) -> RunGuard {
        self.0.runs.fetch_add(1, Ordering::SeqCst);
        let gauged = Gauged::new(Gauge::Runs);
        RunGuard { counts: Arc::clone(&self.0), detached: None, _gauged: gauged }
    }

    /// Counts one more task until the guard is dropped.
    pub(super) fn background(&self) -> BackgroundGuard {
        self.0.background.fetch_add(1, Ordering::SeqCst);
        BackgroundGuard(Arc::clone(&self.0), Gauged::new(Gauge::Background))
    }

    /// How many runs have outlived their callers.
    pub(super) fn detached(&self) -> usize {
        self.0.detached.load(Ordering::Relaxed)
    }

    pub(super) fn left(&self) -> Undrained {
        Undrained {
            runs: self.0.runs.load(Ordering::SeqCst),
            background: self.0.background.load(Ordering::SeqCst),
        }
    }

    /// The operations of the runs that have outlived their callers, with the number of runs of
    /// each.
    pub(super) fn operations(&self) -> String {
        let by_operation = self.0.by_operation.lock().unwrap_or_else(PoisonError::into_inner);
        let counts: Vec<_> =
            by_operation.iter().map(|(operation, count)| format!("{operation}: {count}")).collect();
        counts.join(", ")
    }

    pub(super) async fn wait(&self) {
        loop {
            // Created before the counts are read, so that no end in between is missed.
            let none_left = self.0.none_left.notified();
            if self.left() == (Undrained { runs: 0, background: 0 }) {
                return;
            }
            none_left.await;
        }
    }
}

#[derive(Debug)]
pub(super) struct RunGuard {
    counts: Arc<Counts>,
    /// The operation, once the caller has gone.
    detached: Option<Arc<str>>,
    _gauged: Gauged,
}

impl RunGuard {
    /// The caller has gone.
    pub(super) fn detach(&mut self, operation: Arc<str>) {
        self.counts.detached.fetch_add(1, Ordering::Relaxed);
        *self.by_operation().entry(Arc::clone(&operation)).or_default() += 1;
        self.detached = Some(operation);
    }

    fn by_operation(&self) -> std::sync::MutexGuard<'_, BTreeMap<Arc<str>, usize>> {
        self.counts.by_operation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        if let Some(operation) = self.detached.take() {
            self.counts.detached.fetch_sub(1, Ordering::Relaxed);
            let mut by_operation = self.by_operation();
            if let Some(count) = by_operation.get_mut(&operation) {
                *count -= 1;
                if *count == 0 {
                    by_operation.remove(&operation);
                }
            }
        }
        if self.counts.runs.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.counts.none_left.notify_waiters();
        }
    }
}

#[derive(Debug)]
pub(super) struct BackgroundGuard(
    Arc<Counts>,
    #[allow(dead_code, reason = "counts while it is there")] Gauged,
);

impl Drop for BackgroundGuard {
    fn drop(&mut self) {
        if self.0.background.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.none_left.notify_waiters();
        }
    }
}
