//! [`StoreHandle`]: the store of a service, as the engine holds it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

#[cfg(feature = "memory")]
use super::memory::MemoryStore;
use super::{
    Attempt, Claim, ErasedStore, Extracted, Fingerprint, Hold, Store, StoreError, StoreKey,
};

/// Any store behind a pointer, except this process's memory, which answers without a future.
#[derive(Clone)]
pub(crate) enum StoreHandle {
    #[cfg(feature = "memory")]
    Memory(MemoryStore),
    Shared(Arc<dyn ErasedStore>),
}

impl StoreHandle {
    pub(crate) fn new(store: impl Store) -> Self {
        #[cfg(feature = "memory")]
        {
            let any: &dyn std::any::Any = &store;
            let memory = any.downcast_ref::<MemoryStore>();
            let memory = memory.or_else(|| any.downcast_ref::<Arc<MemoryStore>>().map(|it| &**it));
            if let Some(memory) = memory {
                return Self::Memory(memory.clone());
            }
        }
        Self::Shared(Arc::new(store))
    }
}

#[cfg_attr(
    not(feature = "memory"),
    allow(unused_variables, reason = "only this process's memory compares what was extracted")
)]
impl StoreHandle {
    /// Whether what it holds never leaves this process.
    pub(crate) fn is_memory(&self) -> bool {
        match self {
            #[cfg(feature = "memory")]
            Self::Memory(_) => true,
            Self::Shared(_) => false,
        }
    }

    /// The record of `key`, if this process's memory holds it, and the request that stored it had
    /// the same fingerprint and a last parameter extracted as the same type.
    pub(crate) fn look(
        &self,
        key: StoreKey,
        fingerprint: Fingerprint,
        extracted: Extracted,
    ) -> Option<Bytes> {
        match self {
            #[cfg(feature = "memory")]
            Self::Memory(store) => store.look(key, fingerprint, extracted),
            Self::Shared(_) => None,
        }
    }

    pub(crate) async fn claim(
        &self,
        attempt: &Attempt,
        lease: Duration,
    ) -> Result<Claim, StoreError> {
        match self {
            #[cfg(feature = "memory")]
            Self::Memory(store) => Ok(store.claim_now(attempt)),
            Self::Shared(store) => store.claim(attempt, lease).await,
        }
    }

    pub(crate) async fn renew(
        &self,
        attempt: &Attempt,
        lease: Duration,
    ) -> Result<Hold, StoreError> {
        match self {
            #[cfg(feature = "memory")]
            Self::Memory(store) => Store::renew(store, attempt, lease).await,
            Self::Shared(store) => store.renew(attempt, lease).await,
        }
    }

    pub(crate) async fn complete(
        &self,
        attempt: &Attempt,
        record: Bytes,
        ttl: Duration,
        extracted: Option<Extracted>,
    ) -> Result<Hold, StoreError> {
        match self {
            #[cfg(feature = "memory")]
            Self::Memory(store) => store.complete_now(attempt, record, ttl, extracted),
            Self::Shared(store) => store.complete(attempt, record, ttl).await,
        }
    }

    pub(crate) async fn release(&self, attempt: &Attempt) -> Result<(), StoreError> {
        match self {
            #[cfg(feature = "memory")]
            Self::Memory(store) => {
                store.release_now(attempt);
                Ok(())
            }
            Self::Shared(store) => store.release(attempt).await,
        }
    }

    pub(crate) async fn wait(&self, key: StoreKey, at_most: Duration) {
        match self {
            #[cfg(feature = "memory")]
            Self::Memory(store) => Store::wait(store, key, at_most).await,
            Self::Shared(store) => store.wait(key, at_most).await,
        }
    }
}
