//! [`Health`]: whether the file can be written to, and whether what it says can be trusted.

use std::{
    error::Error as StdError,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use sqlx::Error;

use super::error;
use crate::store::{StoreError, cause::Cause};

/// What the calls on an open file have met.
#[derive(Debug)]
pub(super) struct Health {
    path: PathBuf,
    /// Whether SQLite has found the file damaged: that it does not find a key tells nothing from
    /// then on.
    is_damaged: AtomicBool,
    /// Why the last transaction was not written. Nothing new is claimed until one is: its response
    /// could not be stored either.
    trouble: Mutex<Option<Failure>>,
    /// Whether there is any.
    is_troubled: AtomicBool,
}

impl Health {
    pub(super) fn of(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            is_damaged: AtomicBool::new(false),
            trouble: Mutex::default(),
            is_troubled: AtomicBool::new(false),
        }
    }

    /// Why an absent key cannot be claimed.
    pub(super) fn why_not_claim(&self) -> Option<StoreError> {
        if !self.is_troubled() {
            return None;
        }
        self.trouble().as_ref().map(Failure::to_error)
    }

    /// The error of a call that found nothing in a damaged file.
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

    /// A transaction was not written; what its callers are told.
    pub(super) fn not_written(&self, error: &Error) -> Failure {
        let failure = self.failure(error);
        let mut trouble = self.trouble();
        *trouble = Some(failure.clone());
        self.is_troubled.store(true, Ordering::Relaxed);
        failure
    }

    /// A call has failed; what its caller is told.
    pub(super) fn failed(&self, error: Error) -> StoreError {
        if let Error::ColumnDecode { .. } = error {
            // The columns are there, and hold something else than this release writes.
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
        // Nothing in a critical section panics half way through a change.
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a transaction failed, of which many callers may have to be told.
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
