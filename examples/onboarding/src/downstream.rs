//! The call to another system that onboarding needs, pretended by waiting.

use std::time::Duration;

use crate::live::{Happening, Live};

#[derive(Clone)]
pub(crate) struct Downstream {
    latency: Duration,
    /// Who is told of each call.
    live: Option<Live>,
}

impl Downstream {
    pub(crate) fn new(latency: Duration) -> Self {
        Self { latency, live: None }
    }

    /// Takes this long, if it would take less.
    pub(crate) fn at_least(self, latency: Duration) -> Self {
        Self { latency: self.latency.max(latency), ..self }
    }

    /// Tells `live` of each call.
    pub(crate) fn told_to(self, live: &Live) -> Self {
        Self { live: Some(live.clone()), ..self }
    }

    /// Returns when the other system is done.
    pub(crate) async fn call(&self) {
        tracing::info!("calling the downstream system");
        if let Some(live) = &self.live {
            live.tell(Happening::Begun);
        }
        tokio::time::sleep(self.latency).await;
    }
}
