//! The call to another system that onboarding needs, pretended by waiting.

use std::time::Duration;

#[derive(Clone)]
pub(crate) struct Downstream {
    latency: Duration,
}

impl Downstream {
    pub(crate) fn new(latency: Duration) -> Self {
        Self { latency }
    }

    /// Returns when the other system is done.
    pub(crate) async fn call(&self) {
        tracing::info!("calling the downstream system");
        tokio::time::sleep(self.latency).await;
    }
}
