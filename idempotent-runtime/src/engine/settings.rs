//! [`Engine`]: a store, and how the engine deals with it.

use std::{sync::Arc, time::Duration};

use super::{
    hand_over::HandOver,
    in_flight::{InFlight, Undrained},
    outage::Outage,
    tell::Listeners,
};
use crate::store::{BoxFuture, Store, StoreHandle};

/// What to do with a request if the store cannot be asked before its handler ran.
///
/// ```
/// use idempotent_runtime::OnStoreError;
///
/// assert_eq!(OnStoreError::default(), OnStoreError::Reject);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnStoreError {
    /// Answer 503 and run nothing.
    #[default]
    Reject,
    /// Run the handler without protection. Only a request whose very first claim call failed runs
    /// so, after one more try: a duplicate that has seen a running claim, or an entry of another
    /// release, gets 503; so does one whose handler takes a `Tx`.
    Execute,
}

/// A store, how to deal with it, and what is under way on it.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) store: StoreHandle,
    /// How long a claim survives a dead instance.
    pub(crate) lease: Duration,
    /// Around every store call.
    pub(crate) store_timeout: Duration,
    pub(crate) on_store_error: OnStoreError,
    /// Of the input of all requests that wait, in this process.
    pub(crate) max_waiting_bytes: usize,
    /// Runs that have outlived their callers.
    pub(crate) max_detached_runs: usize,
    pub(super) in_flight: InFlight,
    pub(super) outage: Arc<Outage>,
    pub(super) listeners: Listeners,
    /// Of the keys that are asked for in transactions.
    #[cfg(feature = "postgres")]
    pub(super) turns: Arc<super::transaction::Turns>,
}

impl Engine {
    pub(crate) fn new(store: impl Store) -> Self {
        let store = StoreHandle::new(store);
        let engine = Self {
            store,
            lease: Duration::from_secs(30),
            store_timeout: Duration::from_secs(2),
            on_store_error: OnStoreError::default(),
            max_waiting_bytes: 64 << 20,
            max_detached_runs: 1024,
            in_flight: InFlight::default(),
            outage: Arc::default(),
            listeners: Listeners::default(),
            #[cfg(feature = "postgres")]
            turns: Arc::default(),
        };
        #[cfg(feature = "metrics")]
        let engine = engine.metered();
        engine
    }

    /// The same, counted for the metrics.
    #[cfg(feature = "metrics")]
    fn metered(mut self) -> Self {
        self.listeners.add(super::metrics::listener(&self.store));
        self
    }

    /// Whether no run may be started: too many have outlived their callers.
    pub(super) fn is_full(&self) -> bool {
        self.in_flight.detached() >= self.max_detached_runs
    }

    /// Waits until no work is under way, and nothing is left to store.
    pub(crate) async fn drain(&self) {
        let left = self.in_flight.left();
        if left.runs + left.background > 0 {
            tracing::info!(
                target: crate::TARGET,
                runs = left.runs,
                background = left.background,
                detached = self.in_flight.operations(),
                "waiting for idempotent handlers to end"
            );
        }
        self.in_flight.wait().await;
    }

    /// Waits so for `limit`; what is left then.
    pub(crate) async fn drain_for(&self, limit: Duration) -> Undrained {
        let _ = tokio::time::timeout(limit, self.drain()).await;
        self.in_flight.left()
    }

    /// Does `work` to its end without a claim.
    pub(crate) fn run_to_end<T: Send + 'static>(
        self: &Arc<Self>,
        work: BoxFuture<'static, T>,
    ) -> HandOver<T> {
        HandOver::new(self.in_flight.run(), None, work)
    }
}
