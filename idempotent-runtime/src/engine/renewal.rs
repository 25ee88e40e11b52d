//! [`Renewal`]: a claim that stays held while its run goes on.

use std::time::Duration;

use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::{background::FIRST_BACKOFF, job::Job};
use crate::store::Hold;

/// Renews a claim at a third of its lease, in a task of its own, until it is dropped.
pub(super) struct Renewal {
    task: JoinHandle<()>,
}

impl Renewal {
    pub(super) fn start(job: &Job, lease: Duration) -> Self {
        Self { task: tokio::spawn(renew(job.clone(), lease).in_current_span()) }
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn renew(job: Job, lease: Duration) {
    // A store may grant less than was asked for; nothing is renewed without a pause.
    let third = (lease / 3).max(Duration::from_millis(1));
    let mut pause = third;
    loop {
        tokio::time::sleep(pause).await;
        match job.renew(lease).await {
            Ok(Hold::Held) => pause = third,
            Ok(Hold::Lost) => {
                tracing::warn!(
                    key = %job.attempt.key,
                    "an idempotency claim was lost while its handler runs"
                );
                return;
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "renewing an idempotency claim failed"
                );
                pause = FIRST_BACKOFF.min(third);
            }
        }
    }
}
