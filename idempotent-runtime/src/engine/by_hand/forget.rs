//! Freeing a key.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
};

use super::OperationKey;
use crate::store::{Forgotten, StoreError};

/// Frees a key when awaited: [`OperationKey::forget`].
///
/// ```
/// # use idempotent_runtime::{Forget, Forgotten, Idempotency, MemoryStore};
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let key = Idempotency::new(MemoryStore::new()).operation("charge-card").key("message-1");
/// let forget: Forget = key.forget();
/// assert_eq!(forget.await?, Forgotten::Absent);
/// # Ok::<_, idempotent_runtime::StoreError>(())
/// # }).unwrap();
/// ```
#[must_use = "nothing is freed unless it is awaited"]
pub struct Forget {
    key: OperationKey,
    even_if_running: bool,
}

impl OperationKey {
    /// Frees the key when awaited, so that the next request with it runs.
    ///
    /// With a near cache, this process's copy is dropped as well; other instances may replay theirs
    /// for up to 10 minutes.
    ///
    /// A running key is left alone: [`Forgotten::StillRunning`], with what is left of its lease.
    /// The same goes, in any case, for a key held by a `Tx`: it is freed when its transaction ends.
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
    /// [`store_timeout`](crate::Idempotency::store_timeout). The store is asked only once: if the
    /// call may have arrived, a second one could free what came after the first. The error tells;
    /// check the [`state`](Self::state) then, and forget the key again if it is still held.
    pub fn forget(&self) -> Forget {
        Forget { key: self.clone(), even_if_running: false }
    }
}

impl Forget {
    /// Frees the key even if a request with it is running.
    ///
    /// That run continues, but counts as having lost its claim: its response is not stored, unless
    /// the key is still free by then, **and a retry may run alongside it**. Use it if you know that
    /// the run is dead or stuck and its lease is too long to wait for.
    ///
    /// ```
    /// use std::future::pending;
    ///
    /// use idempotent_runtime::{Forgotten, Idempotency, MemoryStore};
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let key = Idempotency::new(MemoryStore::new()).operation("charge-card").key("message-1");
    /// let (started, has_started) = tokio::sync::oneshot::channel();
    /// tokio::spawn(key.clone().run(|_| async {
    ///     started.send(()).unwrap();
    ///     pending::<Result<(), ()>>().await
    /// }));
    /// has_started.await.unwrap();
    /// assert!(matches!(key.forget().await?, Forgotten::StillRunning { .. }));
    /// assert_eq!(key.forget().even_if_running().await?, Forgotten::Freed);
    /// # Ok::<_, idempotent_runtime::StoreError>(())
    /// # }).unwrap();
    /// ```
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
            let _forgetting = engine.near.forgetting(digest);
            let forget = engine.store.store().forget(digest, even_if_running);
            let forgotten = engine.within_limit(forget).await;
            let forgotten = forgotten.map_err(StoreError::of_forget)?;
            tracing::info!(
                target: crate::TARGET,
                key = %digest,
                %operation,
                ?forgotten,
                "asked to forget an idempotency key"
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
