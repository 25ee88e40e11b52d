//! [`Jobs`]: the writer's work, in batches.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    oneshot,
};

use super::{room::weight, runs::Storing};
use crate::store::{Attempt, StoreError, StoreKey};

/// The maximum number of jobs in a batch.
const MOST_JOBS: usize = 64;

pub(super) enum Job {
    Store(StoreJob),
    Forget(ForgetJob),
    /// Closes the file, and reports when that is done.
    Close(oneshot::Sender<()>),
}

/// Stores a record. There is at most one for each run, so the queue is no longer than the number of
/// runs.
pub(super) struct StoreJob {
    pub(super) attempt: Attempt,
    pub(super) record: Bytes,
    pub(super) ttl: Duration,
    pub(super) storing: Storing,
    pub(super) answer: oneshot::Sender<Result<(), StoreError>>,
}

/// Deletes the record of a key, and reports whether there was one.
pub(super) struct ForgetJob {
    pub(super) key: StoreKey,
    pub(super) answer: oneshot::Sender<Result<bool, StoreError>>,
}

/// The writer's end of the queue.
pub(super) struct Jobs {
    queue: UnboundedReceiver<Job>,
    /// The first job of the next batch.
    kept: Option<Job>,
}

/// What is done in one transaction.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) stores: Vec<StoreJob>,
    pub(super) forgets: Vec<ForgetJob>,
    /// Set if the batch is the last.
    pub(super) close: Option<oneshot::Sender<()>>,
}

/// The queue's two ends.
pub(super) fn queue() -> (UnboundedSender<Job>, Jobs) {
    let (sender, queue) = unbounded_channel();
    (sender, Jobs { queue, kept: None })
}

impl Jobs {
    /// Whether nobody can ask any more.
    pub(super) fn are_over(&self) -> bool {
        self.queue.is_closed()
    }

    /// Everything that is waiting, once there is something: up to `most_bytes` of records, or a
    /// single one. `None` if nobody can ask any more.
    pub(super) async fn batch(&mut self, most_bytes: u64) -> Option<Batch> {
        let mut next = match self.kept.take() {
            Some(job) => job,
            None => self.queue.recv().await?,
        };
        let (mut batch, mut bytes) = (Batch::default(), 0);
        loop {
            match next {
                Job::Store(store) => {
                    bytes += weight(store.record.len() as u64);
                    if bytes > most_bytes && !batch.stores.is_empty() {
                        self.kept = Some(Job::Store(store));
                        return Some(batch);
                    }
                    batch.stores.push(store);
                }
                Job::Forget(forget) => batch.forgets.push(forget),
                Job::Close(closed) => {
                    batch.close = Some(closed);
                    return Some(batch);
                }
            }
            if batch.stores.len() + batch.forgets.len() == MOST_JOBS {
                return Some(batch);
            }
            let Ok(job) = self.queue.try_recv() else { return Some(batch) };
            next = job;
        }
    }
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.stores.is_empty() && self.forgets.is_empty()
    }

    /// The batch is on disk. For each job that forgets, `found` is whether there was a record. A
    /// run is settled before its caller learns of it, so that anyone who asks then is told the
    /// same, and also if the caller has gone.
    pub(super) fn succeed(self, found: Vec<bool>) {
        for StoreJob { storing, answer, .. } in self.stores {
            storing.stored();
            let _ = answer.send(Ok(()));
        }
        for (ForgetJob { answer, .. }, found) in self.forgets.into_iter().zip(found) {
            let _ = answer.send(Ok(found));
        }
    }

    /// Nothing in the batch is stored.
    pub(super) fn fail(self, error: impl Fn() -> StoreError) {
        for StoreJob { storing, answer, .. } in self.stores {
            drop(storing);
            let _ = answer.send(Err(error()));
        }
        for ForgetJob { answer, .. } in self.forgets {
            let _ = answer.send(Err(error()));
        }
    }
}
