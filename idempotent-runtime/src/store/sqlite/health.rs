//! [`Health`]: whether the file can be written to, and whether its contents can be trusted.

use std::{
    error::Error as StdError,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::Error;

use super::error;
use crate::store::{StoreError, cause::Cause};

/// What the calls on an open file have come across.
#[derive(Debug)]
pub(super) struct Health {
    path: PathBuf,
    /// Whether SQLite has found the file corrupt: from then on, not finding a key means nothing.
    is_damaged: AtomicBool,
    /// Why the last transaction was not written. Nothing new is claimed until one is, since its
    /// response could not be stored either.
    trouble: Mutex<Option<Failure>>,
    /// Whether there is any.
    is_troubled: AtomicBool,
    /// When the transaction being written began, in milliseconds since `opened`, plus one; 0 if
    /// there is none.
    writing_since: AtomicU64,
    opened: Instant,
    is_closing: AtomicBool,
}

/// How long a transaction may take before nothing new is claimed, so that records do not pile up
/// behind a disk that hangs. By default a call may take as long.
const SILENCE: Duration = Duration::from_secs(2);

impl Health {
    pub(super) fn of(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            is_damaged: AtomicBool::new(false),
            trouble: Mutex::default(),
            is_troubled: AtomicBool::new(false),
            writing_since: AtomicU64::new(0),
            opened: Instant::now(),
            is_closing: AtomicBool::new(false),
        }
    }

    /// A transaction begins; it ends when the result is dropped.
    pub(super) fn writing(self: &Arc<Self>) -> Writing {
        self.writing_since.store(self.millis() + 1, Ordering::Relaxed);
        Writing(Arc::clone(self))
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    /// Whether the disk has not answered for too long.
    fn is_silent(&self) -> bool {
        let since = self.writing_since.load(Ordering::Relaxed);
        let writing = since.checked_sub(1).map(|since| self.millis().saturating_sub(since));
        writing.is_some_and(|millis| Duration::from_millis(millis) > SILENCE)
    }

    /// The file is about to be closed: the writer no longer waits for anything in its way.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Why an absent key cannot be claimed.
    pub(super) fn why_not_claim(&self) -> Option<StoreError> {
        if self.is_silent() {
            return Some(StoreError::described(format!(
                "`{}` could not be written to for {SILENCE:?}: check its disk, which hangs",
                self.path.display()
            )));
        }
        if !self.is_troubled() {
            return None;
        }
        self.trouble().as_ref().map(Failure::to_error)
    }

    /// The error of a call that found nothing in a corrupt file.
    pub(super) fn distrust(&self) -> Option<StoreError> {
        let is_damaged = self.is_damaged.load(Ordering::Relaxed);
        is_damaged.then(|| StoreError::described(error::damaged(&self.path)))
    }

    pub(super) fn is_troubled(&self) -> bool {
        self.is_troubled.load(Ordering::Relaxed)
    }

    /// A transaction was written.
    pub(super) fn written(&self) {
        if self.is_troubled() {
            let mut trouble = self.trouble();
            self.is_troubled.store(false, Ordering::Relaxed);
            *trouble = None;
        }
    }

    /// A transaction was not written; returns what its callers are told.
    pub(super) fn not_written(&self, error: &Error) -> Failure {
        let failure = self.failure(error);
        let mut trouble = self.trouble();
        *trouble = Some(failure.clone());
        self.is_troubled.store(true, Ordering::Relaxed);
        failure
    }

    /// A call failed; returns what its caller is told.
    pub(super) fn failed(&self, error: Error) -> StoreError {
        if let Error::ColumnDecode { .. } = error {
            // The columns exist, but contain something that this release does not write.
            return StoreError::foreign_entry().because(Cause(error));
        }
        let failure = self.failure(&error);
        match failure.message {
            Some(message) => StoreError::described(message).because(Cause(error)),
            None => StoreError::new(Cause(error)),
        }
    }

    fn failure(&self, error: &Error) -> Failure {
        let cause = error.to_string();
        if !error::is_damage(error) {
            let what = error::what_to_do(error);
            let message = what.map(|what| format!("`{}` {what}", self.path.display()));
            return Failure { message, cause };
        }
        let message = error::damaged(&self.path);
        if !self.is_damaged.swap(true, Ordering::Relaxed) {
            tracing::error!(target: crate::TARGET, error = error as &dyn StdError, "{message}");
        }
        Failure { message: Some(message), cause }
    }

    fn trouble(&self) -> MutexGuard<'_, Option<Failure>> {
        // Nothing in a critical section panics halfway through a change.
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A transaction that is being written.
pub(super) struct Writing(Arc<Health>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.writing_since.store(0, Ordering::Relaxed);
    }
}

/// Why a transaction failed, for any number of callers.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// What to do, if that is known.
    message: Option<String>,
    cause: String,
}

impl Failure {
    pub(super) fn to_error(&self) -> StoreError {
        match &self.message {
            Some(message) => StoreError::described(message.clone()).because(self.cause.clone()),
            None => StoreError::new(self.cause.clone()),
        }
    }
}
