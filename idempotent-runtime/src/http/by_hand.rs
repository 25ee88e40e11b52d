//! Keys outside of HTTP, and the readiness check.

use std::sync::Arc;

use super::idempotency::Idempotency;
use crate::{engine::Operation, store::StoreError};

impl Idempotency {
    /// The operation with this name, to inspect or free one of its keys, or to run work under it
    /// outside of a request.
    ///
    /// The name is the attribute's `scope`, or a route's method and template, nest prefix included,
    /// such as `POST /payments/{id}`. Handlers that are reached without a template (a fallback)
    /// have no operation name and cannot be named here: give such a handler a `scope`.
    ///
    /// ```
    /// use idempotent_runtime::{Idempotency, MemoryStore, OperationState};
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let idempotency = Idempotency::new(MemoryStore::new());
    /// let key = idempotency.operation("POST /v1/members").principal("acme").key("order-7");
    /// assert_eq!(key.state().await?, OperationState::Absent);
    /// # Ok::<_, idempotent_runtime::StoreError>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn operation(&self, name: impl Into<Arc<str>>) -> Operation {
        let settings = &self.settings;
        Operation::new(Arc::clone(&settings.engine), settings.max_response_bytes, name.into())
    }

    /// Queries the store, for a readiness probe.
    ///
    /// ```
    /// # use idempotent_runtime::{Idempotency, MemoryStore};
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// assert!(Idempotency::new(MemoryStore::new()).check().await.is_ok());
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if the store does not answer within [`store_timeout`](Self::store_timeout),
    /// or cannot be read.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.settings.engine.check().await
    }
}
