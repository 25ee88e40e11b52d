//! Work outside of a request, in the same transaction as its claim and its value.

use std::future::Future;

use serde::{Serialize, de::DeserializeOwned};

use super::{Done, OperationKey, RunError};
use crate::{
    engine::{IdempotencyKey, Isolation, Tx},
    store::Slot,
};

impl OperationKey {
    /// Does `work` as [`run`](Self::run) does, in a transaction that also holds the claim and the
    /// value: what `work` writes with its [`Tx`] is there if and only if the value is, whatever
    /// crashes and when. It needs a [`PostgresStore`](crate::PostgresStore).
    ///
    /// An `Ok` value is committed. If the value cannot be stored, what was written with it is
    /// committed all the same, and later calls get [`RunError::ValueNotStored`]. An `Err` or a
    /// panic rolls back and frees the key. The type of the parameter sets the isolation level:
    /// `Tx`, [`Tx<RepeatableRead>`](crate::RepeatableRead) or
    /// [`Tx<Serializable>`](crate::Serializable).
    ///
    /// ```no_run
    /// # async fn consume(store: idempotent_runtime::PostgresStore) -> Result<(), Box<dyn std::error::Error>> {
    /// use idempotent_runtime::{Idempotency, Tx};
    ///
    /// let idempotency = Idempotency::new(store);
    /// let key = idempotency.operation("charge-card").principal("tenant-7").key("message-1");
    /// let done = key
    ///     .run_tx(|mut tx: Tx, key| async move {
    ///         sqlx::query("INSERT INTO charges (id, cents) VALUES ($1, 1000)")
    ///             .bind(key.derive("charge").to_string())
    ///             .execute(&mut *tx)
    ///             .await?;
    ///         Ok::<_, sqlx::Error>("charged".to_owned())
    ///     })
    ///     .await?;
    /// assert_eq!(done.value, "charged");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the work fails, or cannot be run, committed or its value returned:
    /// [`RunError`] says why, and whether the call is [worth
    /// retrying](RunError::is_worth_retrying).
    // Stated again: rustdoc does not take the module's for the facade's page.
    #[cfg(feature = "postgres")]
    #[expect(clippy::manual_async_fn, reason = "an `async fn` promises no `Send`")]
    pub fn run_tx<I, T, E, F, Fut>(
        self,
        work: F,
    ) -> impl Future<Output = Result<Done<T>, RunError<E>>> + Send + 'static
    where
        I: Isolation,
        T: Serialize + DeserializeOwned + Send + 'static,
        E: Send + 'static,
        F: FnOnce(Tx<I>, IdempotencyKey) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        async move {
            if self.engine.store.transactional().is_none() {
                return Err(RunError::NoTransactions);
            }
            let slot = Slot::wanting(I::LEVEL);
            let mut job = self.job();
            job.transaction = Some(slot.clone());
            let tx = Tx::of(slot);
            self.ask_and_run(job, |key| work(tx, key)).await
        }
    }
}
