//! Signals between a test and the handlers it drives, instead of sleeps.
#![allow(dead_code, reason = "not every test file uses every helper")]

use std::{sync::Arc, time::Duration};

use axum::{extract::Request, middleware::Next, response::Response};
use tokio::sync::{Semaphore, watch};

/// Far beyond what any test needs: a lost signal fails it instead of hanging the run.
const STUCK: Duration = Duration::from_mins(1);

/// Counts something; a test waits for it to happen.
#[derive(Clone, Default)]
pub(crate) struct Counter(Arc<watch::Sender<usize>>);

impl Counter {
    /// Counts one; gives how many there were before.
    pub(crate) fn add(&self) -> usize {
        let mut before = 0;
        self.0.send_modify(|count| {
            before = *count;
            *count += 1;
        });
        before
    }

    pub(crate) fn get(&self) -> usize {
        *self.0.borrow()
    }

    /// Waits until at least `count` were counted.
    pub(crate) async fn reaches(&self, count: usize) {
        let mut watched = self.0.subscribe();
        let reached = watched.wait_for(|now| *now >= count);
        let reached = tokio::time::timeout(STUCK, reached).await;
        assert!(reached.is_ok(), "stuck at {} of {count}", self.get());
    }

    /// Counts one when the guard is dropped.
    pub(crate) fn add_on_drop(&self) -> CountOnDrop {
        CountOnDrop(self.clone())
    }
}

pub(crate) struct CountOnDrop(Counter);

impl Drop for CountOnDrop {
    fn drop(&mut self) {
        self.0.add();
    }
}

/// Where handlers stop until the test lets them pass.
#[derive(Clone)]
pub(crate) struct Gate {
    /// Handlers that have come to the gate.
    pub(crate) arrived: Counter,
    passes: Arc<Semaphore>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { arrived: Counter::default(), passes: Arc::new(Semaphore::new(0)) }
    }
}

impl Gate {
    /// Waits for a pass; gives how many came before.
    pub(crate) async fn pass(&self) -> usize {
        let before = self.arrived.add();
        self.passes.acquire().await.unwrap().forget();
        before
    }

    /// Lets `count` handlers pass, now or when they come.
    pub(crate) fn open(&self, count: usize) {
        self.passes.add_permits(count);
    }

    /// Lets everybody pass from now on.
    pub(crate) fn open_for_good(&self) {
        self.passes.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// Lets nobody pass from now on.
    pub(crate) fn close(&self) {
        self.passes.forget_permits(Semaphore::MAX_PERMITS);
    }
}

/// Middleware that counts the requests whose caller has gone away, or got its response.
pub(crate) async fn count_ends(ended: Counter, request: Request, next: Next) -> Response {
    let _guard = ended.add_on_drop();
    next.run(request).await
}
