//! Counting what is under way, so that a shutdown can wait for it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// Counts the work that is under way, and what is left to store.
///
/// A run counts from its start, not only once its caller has gone: a server may have ended before
/// it drops the connection that the run hangs on.
#[derive(Debug, Clone, Default)]
pub(super) struct InFlight(Arc<Count>);

#[derive(Debug, Default)]
struct Count {
    running: AtomicUsize,
    none_left: Notify,
}

impl InFlight {
    /// Counts one more until the guard is dropped.
    pub(super) fn enter(&self) -> InFlightGuard {
        self.0.running.fetch_add(1, Ordering::SeqCst);
        InFlightGuard(Arc::clone(&self.0))
    }

    pub(super) async fn wait(&self) {
        loop {
            // Before the count is read, so that no end in between is missed.
            let none_left = self.0.none_left.notified();
            if self.0.running.load(Ordering::SeqCst) == 0 {
                return;
            }
            none_left.await;
        }
    }
}

#[derive(Debug)]
pub(super) struct InFlightGuard(Arc<Count>);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.none_left.notify_waiters();
        }
    }
}
