//! [`Engine`]: a store, and how the engine uses it.

use std::{sync::Arc, time::Duration};

#[cfg(feature = "seal")]
use super::sealing::Seals;
use super::{
    fields::Digesting,
    hand_over::HandOver,
    in_flight::{InFlight, Undrained},
    near::Near,
    outage::Outage,
    tell::Listeners,
};
use crate::store::{BoxFuture, Store, StoreHandle};

/// What to do with a request if the store fails before the handler has run.
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
    /// Run the handler without protection. This applies only if the very first claim call failed,
    /// even when retried once. A duplicate that has seen a running claim, or an entry of another
    /// release, gets 503; so does a request whose handler takes a `Tx`.
    Execute,
}

/// A store, how to use it, and the work in progress on it.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) store: StoreHandle,
    /// How long a claim survives a dead instance.
    pub(crate) lease: Duration,
    /// The limit of every store call.
    pub(crate) store_timeout: Duration,
    pub(crate) on_store_error: OnStoreError,
    /// The limit for the input of all waiting requests in this process.
    pub(crate) max_waiting_bytes: usize,
    /// The limit for runs that have outlived their callers.
    pub(crate) max_detached_runs: usize,
    /// How to compute digests that other processes compute as well.
    pub(crate) digesting: Digesting,
    #[cfg(feature = "seal")]
    pub(crate) seals: Seals,
    pub(super) in_flight: InFlight,
    pub(super) outage: Arc<Outage>,
    pub(super) listeners: Listeners,
    /// Copies of the store's contents.
    pub(super) near: Near,
    /// The queues for keys that are claimed in transactions.
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
            digesting: Digesting::Stable,
            #[cfg(feature = "seal")]
            seals: Seals::default(),
            in_flight: InFlight::default(),
            outage: Arc::default(),
            listeners: Listeners::default(),
            near: Near::default(),
            #[cfg(feature = "postgres")]
            turns: Arc::default(),
        };
        #[cfg(feature = "metrics")]
        let engine = engine.metered();
        engine
    }

    /// The same engine, counted for the metrics.
    #[cfg(feature = "metrics")]
    fn metered(mut self) -> Self {
        self.listeners.add(super::metrics::listener(&self.store));
        self
    }

    /// Whether nobody can compute the digest of a guess without this service's secret.
    pub(crate) fn has_keyed_digests(&self) -> bool {
        matches!(self.digesting, Digesting::Keyed(_))
    }

    /// Whether no run may start because too many have outlived their callers.
    pub(super) fn is_full(&self) -> bool {
        self.in_flight.detached() >= self.max_detached_runs
    }

    /// Waits until no work is in progress and nothing is left to store.
    pub(crate) async fn drain(&self) {
        let left = self.in_flight.left();
        if left.runs + left.background > 0 {
            tracing::info!(
                target: crate::TARGET,
                runs = left.runs,
                background = left.background,
                detached = self.in_flight.operations(),
                "waiting for idempotent handlers to finish"
            );
        }
        self.in_flight.wait().await;
    }

    /// Like `drain`, for at most `limit`; returns what is left then.
    pub(crate) async fn drain_for(&self, limit: Duration) -> Undrained {
        let _ = tokio::time::timeout(limit, self.drain()).await;
        self.in_flight.left()
    }

    /// Runs `work` to its end without a claim.
    pub(crate) fn run_to_end<T: Send + 'static>(
        self: &Arc<Self>,
        work: BoxFuture<'static, T>,
    ) -> HandOver<T> {
        HandOver::new(self.in_flight.run(), None, work)
    }
}
