//! Work outside of a request, run once for each key.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
};

use bytes::{BufMut as _, Bytes};
use futures_util::FutureExt as _;
use serde::{Serialize, de::DeserializeOwned};

use super::{OperationKey, RunError};
use crate::{
    engine::{
        Claimed, Engine, Found, IdempotencyKey, Job, Keep, Settled, Watch,
        record::{self, Draft, Form},
    },
    store::{Attempt, Token},
};

/// The result of an [`OperationKey::run`].
///
/// ```
/// use idempotent_runtime::{Done, Idempotency, MemoryStore};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let key = Idempotency::new(MemoryStore::new()).operation("charge-card").key("message-1");
/// let charge = |_| async { Ok::<_, ()>("charged".to_owned()) };
/// let Done { value, replayed, .. } = key.clone().run(charge).await.unwrap();
/// assert_eq!((&*value, replayed), ("charged", false));
/// let Done { value, replayed, .. } = key.run(charge).await.unwrap();
/// assert_eq!((&*value, replayed), ("charged", true));
/// # });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Done<T> {
    /// The value that the work returned.
    pub value: T,
    /// Whether it was returned by an earlier run.
    pub replayed: bool,
}

impl OperationKey {
    /// Does `work`, unless work with this key has already been done: then returns that work's
    /// value.
    ///
    /// This is what the attribute does for a handler. Of any number of calls with the key, on all
    /// instances that share the store, one runs and the others wait for it. An `Ok` value is stored
    /// as JSON for [`ttl`](Self::ttl) before it is returned; an `Err` frees the key, and so does a
    /// panic, which reaches the caller. Work that has begun is never cancelled: if its caller goes
    /// away, it continues in its own task, and [`Idempotency::drain`](crate::Idempotency::drain)
    /// waits for it.
    ///
    /// `work` gets the key, from which [`IdempotencyKey::derive`] creates the keys for calls to
    /// other systems. A value that serde cannot serialize, or that is longer than
    /// [`max_response_bytes`](crate::Idempotency::max_response_bytes), is still returned to this
    /// caller; later ones get [`RunError::ValueNotStored`], and nothing runs again. As always with
    /// JSON, a type must be able to read what it writes: `f64::NAN` is written as `null`.
    ///
    /// ```
    /// use idempotent_runtime::{Idempotency, MemoryStore};
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let idempotency = Idempotency::new(MemoryStore::new());
    /// for delivery in 0..2 {
    ///     let key = idempotency.operation("charge-card").principal("tenant-7").key("message-1");
    ///     let charge = |key: idempotent_runtime::IdempotencyKey| async move {
    ///         Ok::<_, std::io::Error>(key.derive("stripe").to_string())
    ///     };
    ///     let done = key.fingerprint("EUR 10").run(charge).await?;
    ///     assert_eq!(done.replayed, delivery == 1);
    /// }
    /// # Ok::<_, idempotent_runtime::RunError<std::io::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the work fails, or cannot be run or its value returned: [`RunError`]
    /// says why, and whether the call is [worth retrying](RunError::is_worth_retrying).
    pub fn run<T, E, F, Fut>(
        self,
        work: F,
    ) -> impl Future<Output = Result<Done<T>, RunError<E>>> + Send + 'static
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        E: Send + 'static,
        F: FnOnce(IdempotencyKey) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        let job = self.job();
        self.ask_and_run(job, work)
    }

    /// Asks for `job`, which is this key's, and does `work` if the key is claimed.
    pub(super) async fn ask_and_run<T, E, F, Fut>(
        self,
        job: Job,
        work: F,
    ) -> Result<Done<T>, RunError<E>>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        E: Send + 'static,
        F: FnOnce(IdempotencyKey) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        if self.key.is_empty() {
            return Err(RunError::EmptyKey);
        }
        let keeping = self.keeping();
        let key = IdempotencyKey::default();
        key.set(self.key, self.digest, self.engine.digesting.clone());
        match job.ask().await {
            Found::Claimed(claimed) => {
                claimed.run_to_end(|claimed| Box::pin(run(work, key, keeping, claimed))).await
            }
            Found::Unprotected => {
                let run = self.engine.run_to_end(Box::pin(async move { work(key).await }));
                run.await.map(fresh).map_err(RunError::Failed)
            }
            Found::Stored(value, _) => replay(&value),
            Found::Refused(refusal) => Err(refusal.into()),
        }
    }

    pub(super) fn job(&self) -> Job {
        let attempt = Attempt::new(self.digest, self.salted(), Token::random());
        Job {
            engine: Arc::clone(&self.engine),
            attempt: attempt.named(Arc::clone(&self.operation)),
            form: Form::Value,
            ttl: self.ttl,
            wait: self.wait,
            input_bytes: 0,
            extracted: None,
            transaction: None,
            watch: Watch::default(),
        }
    }

    fn keeping(&self) -> Keeping {
        Keeping {
            operation: Arc::clone(&self.operation),
            max: self.max_value_bytes,
            engine: Arc::clone(&self.engine),
        }
    }
}

/// Does `work` under its claim, and settles that before answering or resuming the work's panic.
async fn run<T, E, F, Fut>(
    work: F,
    key: IdempotencyKey,
    keeping: Keeping,
    mut claimed: Claimed,
) -> Result<Done<T>, RunError<E>>
where
    T: Serialize + DeserializeOwned,
    F: FnOnce(IdempotencyKey) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    claimed.begin().await;
    let work = async {
        let result = work(key).await;
        let keep = match &result {
            Ok(value) => Keep::Record(keeping.record(serde_json::to_vec(value))),
            Err(_) => Keep::Nothing,
        };
        (keep, result)
    };
    let (keep, result) = match AssertUnwindSafe(work).catch_unwind().await {
        Ok(done) => done,
        Err(panic) => {
            claimed.settle(Keep::Nothing).await;
            resume_unwind(panic)
        }
    };
    match claimed.settle(keep).await {
        Settled::Own => result.map(fresh).map_err(RunError::Failed),
        Settled::Stored(value) => replay(&value),
        Settled::Refused(refusal) => Err(refusal.into()),
    }
}

/// How a value is stored.
struct Keeping {
    operation: Arc<str>,
    max: usize,
    engine: Arc<Engine>,
}

impl Keeping {
    /// The record of a value, or a note that it could not be stored.
    fn record(&self, json: serde_json::Result<Vec<u8>>) -> Bytes {
        let json = match json {
            Ok(json) if json.len() <= self.max => json,
            Ok(json) => {
                let (operation, bytes) = (&*self.operation, json.len());
                tracing::warn!(target: crate::TARGET, operation, bytes, "a value is too large to store");
                return record::not_stored();
            }
            Err(error) => {
                let (operation, error) = (&*self.operation, &error as &dyn std::error::Error);
                tracing::warn!(target: crate::TARGET, operation, error, "a value cannot be serialized");
                return record::not_stored();
            }
        };
        let mut draft = Draft::value(json.len());
        draft.payload().put_slice(&json);
        self.engine.finish(draft)
    }
}

fn fresh<T>(value: T) -> Done<T> {
    Done { value, replayed: false }
}

fn replay<T: DeserializeOwned, E>(json: &[u8]) -> Result<Done<T>, RunError<E>> {
    match serde_json::from_slice(json) {
        Ok(value) => Ok(Done { value, replayed: true }),
        Err(error) => Err(RunError::OtherValue(error.into())),
    }
}
