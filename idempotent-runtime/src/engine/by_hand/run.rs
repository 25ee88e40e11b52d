//! Work without a request, run once for each key.

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
        Claimed, Found, IdempotencyKey, Job, Keep, Settled, Watch,
        record::{self, Draft, Form},
    },
    store::{Attempt, Token},
};

/// What an [`OperationKey::run`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Done<T> {
    /// The work's value.
    pub value: T,
    /// Whether it is that of an earlier run.
    pub replayed: bool,
}

impl OperationKey {
    /// Does `work`, unless work with this key was done before: then its value is given back.
    ///
    /// It is what the attribute does with a handler. Of any number of calls with the key, on all
    /// instances that share the store, one runs and the others wait for it. An `Ok` value is stored
    /// as JSON for [`ttl`](Self::ttl) before it is given to the caller; an `Err` frees the key, as a
    /// panic does, which reaches the caller. Work that has begun is never cancelled: if its caller
    /// goes away, it goes on in a task of its own, and
    /// [`Idempotency::drain`](crate::Idempotency::drain) waits for it.
    ///
    /// `work` is given the key, from which [`IdempotencyKey::derive`] makes those for calls to other
    /// systems. A value that serde cannot serialise, or that is longer than
    /// [`max_response_bytes`](crate::Idempotency::max_response_bytes), is given to this caller all the
    /// same; later ones get [`RunError::ValueNotStored`], and nothing runs again. As with every JSON,
    /// a type has to read what it writes: `f64::NAN` is written as `null`.
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
    /// Returns an error if the work fails, or cannot be done or given back: [`RunError`] says why, and
    /// whether the call is [worth retrying](RunError::is_worth_retrying).
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

    /// Asks for `job`, this key's, and does `work` if its key is claimed.
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
        key.set(self.key, self.digest);
        match job.ask().await {
            Found::Claimed(claimed) => {
                claimed.run_to_end(|claimed| Box::pin(run(work, key, keeping, claimed))).await
            }
            Found::Unprotected => {
                let run = self.engine.run_to_end(Box::pin(async move { work(key).await }));
                run.await.map(fresh).map_err(RunError::Failed)
            }
            Found::Stored(value) => replay(&value),
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
        let is_memory = self.engine.store.is_memory();
        Keeping { operation: Arc::clone(&self.operation), max: self.max_value_bytes, is_memory }
    }
}

/// Does `work` under its claim, and settles that before it answers, or goes on with its panic.
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

/// How a value is kept.
struct Keeping {
    operation: Arc<str>,
    max: usize,
    is_memory: bool,
}

impl Keeping {
    /// The record of a value, or a note that it could not be stored.
    fn record(&self, json: serde_json::Result<Vec<u8>>) -> Bytes {
        let json = match json {
            Ok(json) if json.len() <= self.max => json,
            Ok(json) => {
                let (operation, bytes) = (&*self.operation, json.len());
                tracing::warn!(target: crate::TARGET, operation, bytes, "a value is too large to be stored");
                return record::not_stored();
            }
            Err(error) => {
                let (operation, error) = (&*self.operation, &error as &dyn std::error::Error);
                tracing::warn!(target: crate::TARGET, operation, error, "a value cannot be serialised to be stored");
                return record::not_stored();
            }
        };
        let mut draft = Draft::value(json.len());
        draft.payload().put_slice(&json);
        if self.is_memory { draft.seal_unchecked() } else { draft.seal() }
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
