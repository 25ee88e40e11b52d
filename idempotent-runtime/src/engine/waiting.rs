//! [`Waiting`]: how long one duplicate is prepared to wait.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::{
    ask::Refusal,
    gauge::{Gauge, Gauged},
    job::Job,
};
use crate::store::Fingerprint;

/// The first pause between two looks at a key whose store says at once that the run may have ended.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// Waits for the runs that hold one key, in total for no longer than the job allows.
pub(super) struct Waiting<'a> {
    job: &'a Job,
    since: Instant,
    /// The minimum length of the next wait, since a store may return early at will.
    pause: Duration,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(job: &'a Job) -> Self {
        Self { job, since: Instant::now(), pause: Duration::ZERO }
    }

    /// How much longer it may wait.
    pub(super) fn left(&self) -> Duration {
        self.job.wait.saturating_sub(self.since.elapsed())
    }

    /// Waits until the running request may have ended.
    pub(super) async fn wait(
        &mut self,
        running: Option<Fingerprint>,
        lease_left: Option<Duration>,
    ) -> Result<(), Refusal> {
        let Job { engine, attempt, .. } = self.job;
        let refusal = self.job.refusal_without_waiting(running);
        if refusal == Refusal::KeyReused {
            return Err(refusal);
        }
        let left = self.left();
        if left.is_zero() {
            return Err(refusal);
        }
        let at_most = lease_left.map_or(left, |lease_left| left.min(lease_left));
        let begun = Instant::now();
        // A store that breaks its promise must not hold up the caller.
        let _ = timeout(at_most, engine.store.store().wait(attempt.key, at_most)).await;
        let waited = begun.elapsed();
        let early = self.pause.saturating_sub(waited);
        let longer = MAX_PAUSE.min(self.pause * 2).max(FIRST_PAUSE);
        self.pause = if waited < MAX_PAUSE { longer } else { FIRST_PAUSE };
        sleep(early.min(left)).await;
        Ok(())
    }
}

/// The input of waiting requests in this process.
static WAITING_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Input that is held while its request waits.
pub(super) struct WaitingBytes {
    bytes: usize,
    since: Instant,
    _gauged: Gauged,
}

impl WaitingBytes {
    /// `None` if all waiting requests would then hold more than `most` bytes.
    pub(super) fn hold(bytes: usize, most: usize) -> Option<Self> {
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= most);
        let held = WAITING_BYTES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        held.is_ok().then(|| Self {
            bytes,
            since: Instant::now(),
            _gauged: Gauged::new(Gauge::Waiting),
        })
    }

    /// How long it has been held.
    pub(super) fn time(self) -> Duration {
        self.since.elapsed()
    }
}

impl Drop for WaitingBytes {
    fn drop(&mut self) {
        WAITING_BYTES.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Job {
    /// Why a duplicate that cannot wait is refused.
    pub(super) fn refusal_without_waiting(&self, running: Option<Fingerprint>) -> Refusal {
        match running {
            Some(running) if running != self.attempt.fingerprint => Refusal::KeyReused,
            _ => Refusal::RequestInProgress,
        }
    }
}
