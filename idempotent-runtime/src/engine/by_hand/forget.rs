//! Freeing a key.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
};

use super::OperationKey;
use crate::store::{Forgotten, StoreError};

/// Frees a key once it is awaited: [`OperationKey::forget`].
#[must_use = "nothing is freed unless it is awaited"]
pub struct Forget {
    key: OperationKey,
    even_if_running: bool,
}

impl OperationKey {
    /// Frees the key, so that the next request with it runs. Await what this gives.
    ///
    /// A running key is left alone: [`Forgotten::StillRunning`], with what is left of its lease. So
    /// is, in any case, one that a `Tx` holds: it is free when its transaction ends.
    ///
    /// ```
    /// use idempotent_runtime::{Forgotten, Idempotency, MemoryStore};
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let idempotency = Idempotency::new(MemoryStore::new());
    /// let key = idempotency.operation("charge-card").key("message-1");
    /// key.clone().run(|_| async { Ok::<_, ()>(7) }).await.unwrap();
    /// assert_eq!(key.forget().await?, Forgotten::Freed);
    /// assert_eq!(key.forget().await?, Forgotten::Absent);
    /// # Ok::<_, idempotent_runtime::StoreError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Awaiting it returns an error if the store could not be asked, or did not answer within
    /// [`store_timeout`](crate::Idempotency::store_timeout). It is asked once: where the call may
    /// have arrived, a second one could free what came after the first. The error says so; look at
    /// the [`state`](Self::state) then, and forget the key again if it is still held.
    pub fn forget(&self) -> Forget {
        Forget { key: self.clone(), even_if_running: false }
    }
}

impl Forget {
    /// Frees the key also if a request with it is running.
    ///
    /// That run goes on, and counts as having lost its claim: what it answers is not stored, unless
    /// the key is still free by then, **and a retry may run beside it**. Use it if you know that the
    /// run is dead or stuck and its lease is too long to wait for.
    pub fn even_if_running(self) -> Self {
        Self { even_if_running: true, ..self }
    }
}

impl IntoFuture for Forget {
    type Output = Result<Forgotten, StoreError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { key: OperationKey { engine, digest, operation, .. }, even_if_running } = self;
        Box::pin(async move {
            let forget = engine.store.store().forget(digest, even_if_running);
            let forgotten = engine.within_limit(forget).await;
            let forgotten = forgotten.map_err(StoreError::of_forget)?;
            tracing::info!(
                target: crate::TARGET,
                key = %digest,
                %operation,
                ?forgotten,
                "a key was to be forgotten"
            );
            Ok(forgotten)
        })
    }
}

impl fmt::Debug for Forget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forget")
            .field("key", &self.key)
            .field("even_if_running", &self.even_if_running)
            .finish()
    }
}
