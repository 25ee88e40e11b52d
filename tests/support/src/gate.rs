//! [`Counter`] and [`Gate`]: signals between a test and the handlers it drives, instead of sleeps;
//! and [`is_pending`], which checks whether a future is still waiting.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use axum::{extract::Request, middleware::Next, response::Response};
use tokio::sync::{Semaphore, watch};

use crate::PATIENCE;

/// Counts something, so that a test can wait for it to happen.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<watch::Sender<usize>>);

impl Counter {
    /// Adds one; returns the count before.
    #[expect(clippy::must_use_candidate, reason = "what only counts does not ask")]
    pub fn add(&self) -> usize {
        let mut before = 0;
        self.0.send_modify(|count| {
            before = *count;
            *count += 1;
        });
        before
    }

    /// How many were counted.
    #[must_use]
    pub fn get(&self) -> usize {
        *self.0.borrow()
    }

    /// Waits until at least `count` were counted.
    ///
    /// # Panics
    ///
    /// Panics if it never gets there: a lost signal fails a test instead of hanging the run.
    pub async fn reaches(&self, count: usize) {
        let mut watched = self.0.subscribe();
        let reached = watched.wait_for(|now| *now >= count);
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        assert!(reached.is_ok(), "stuck at {} of {count}", self.get());
    }

    /// Counts one when the guard is dropped.
    #[must_use]
    pub fn add_on_drop(&self) -> CountOnDrop {
        CountOnDrop(self.clone())
    }
}

/// Counts one when it is dropped.
#[derive(Debug)]
pub struct CountOnDrop(Counter);

impl Drop for CountOnDrop {
    fn drop(&mut self) {
        self.0.add();
    }
}

/// Counts a handler's runs.
#[derive(Debug, Clone, Default)]
pub struct Runs(Counter);

impl Runs {
    /// Counts one run, and returns a body that no other run returns.
    #[must_use]
    pub fn next(&self) -> String {
        format!("run {}", self.0.add() + 1)
    }

    /// How many runs there were.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.get()
    }
}

/// Where handlers stop until the test lets them pass. A clone is another handle to the same gate.
#[derive(Debug, Clone)]
pub struct Gate {
    /// Handlers that have come to the gate.
    pub arrived: Counter,
    passes: Arc<Semaphore>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { arrived: Counter::default(), passes: Arc::new(Semaphore::new(0)) }
    }
}

impl Gate {
    /// Waits for a pass; returns how many came before.
    pub async fn pass(&self) -> usize {
        let before = self.arrived.add();
        // Never closed, so this waits for a pass and nothing else.
        if let Ok(pass) = self.passes.acquire().await {
            pass.forget();
        }
        before
    }

    /// Lets `count` handlers pass, now or when they come.
    pub fn open(&self, count: usize) {
        self.passes.add_permits(count);
    }

    /// Lets everyone pass from now on.
    pub fn open_for_good(&self) {
        self.passes.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// Lets no one pass from now on.
    pub fn close(&self) {
        self.passes.forget_permits(Semaphore::MAX_PERMITS);
    }
}

/// Middleware that counts requests whose caller has gone away or has got its response.
pub async fn count_ends(ended: Counter, request: Request, next: Next) -> Response {
    let _guard = ended.add_on_drop();
    next.run(request).await
}

/// Whether `future` is still waiting when it is asked once.
pub async fn is_pending(mut future: Pin<&mut impl Future>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}
