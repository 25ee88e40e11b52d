//! Looking again for where the servers are, in the background.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use ::redis::RedisResult;
use tokio::runtime::Handle;

/// How often the servers are looked for at most, while one is unreachable.
const EVERY: Duration = Duration::from_secs(1);
/// The limit for a question about where the servers are, which no caller's limit ends.
pub(super) const QUESTION_LIMIT: Duration = Duration::from_secs(1);

/// When the servers were last looked for.
pub(super) struct Rediscovery(Mutex<Instant>);

impl Rediscovery {
    /// They are being looked for now.
    pub(super) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// Runs `discover` in the background, unless the last time was a moment ago.
    pub(super) fn soon(&self, discover: impl Future<Output = RedisResult<()>> + Send + 'static) {
        let Ok(runtime) = Handle::try_current() else { return };
        // Nothing in a critical section panics.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() < EVERY {
            return;
        }
        *last = Instant::now();
        drop(last);
        runtime.spawn(async move {
            if let Err(error) = discover.await {
                tracing::debug!(
                    target: crate::TARGET,
                    error = &error as &dyn std::error::Error,
                    "nobody told where the Redis servers are"
                );
            }
        });
    }
}

/// The output of `call`. If it is dropped before it has finished, its server may be gone and
/// replaced by another: then `otherwise` runs.
pub(super) async fn unless_abandoned<T>(
    call: impl Future<Output = T>,
    otherwise: impl FnOnce(),
) -> T {
    struct Guard<F: FnOnce()>(Option<F>);

    impl<F: FnOnce()> Drop for Guard<F> {
        fn drop(&mut self) {
            if let Some(otherwise) = self.0.take() {
                otherwise();
            }
        }
    }

    let mut guard = Guard(Some(otherwise));
    let output = call.await;
    guard.0 = None;
    output
}
