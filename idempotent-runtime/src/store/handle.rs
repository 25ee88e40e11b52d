//! [`StoreHandle`]: the store of a service, as the engine holds it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

#[cfg(feature = "memory")]
use super::memory::MemoryStore;
#[cfg(feature = "postgres")]
use super::postgres::PostgresStore;
#[cfg(feature = "sqlite")]
use super::sqlite::SqliteStore;
use super::{
    Attempt, Claim, ErasedStore, Extracted, Fingerprint, Hold, Store, StoreError, StoreKey,
};

/// Any store behind a pointer, except for this process's memory, which answers without a future:
/// its methods are the `…_at_once` ones, which return `None` for any other store. The claims on a
/// SQLite file are in memory as well, and are released at once.
#[derive(Clone)]
pub(crate) enum StoreHandle {
    #[cfg(feature = "memory")]
    Memory(MemoryStore),
    Shared {
        store: Arc<dyn ErasedStore>,
        /// The same store, if it supports transactions.
        #[cfg(feature = "postgres")]
        postgres: Option<PostgresStore>,
        /// The same store, if its claims are held in this process.
        #[cfg(feature = "sqlite")]
        sqlite: Option<SqliteStore>,
    },
}

#[cfg_attr(
    not(feature = "memory"),
    allow(unused_variables, reason = "no other store answers without a future")
)]
impl StoreHandle {
    pub(crate) fn new(store: impl Store) -> Self {
        #[cfg(feature = "memory")]
        if let Some(memory) = known(&store) {
            return Self::Memory(memory);
        }
        Self::Shared {
            #[cfg(feature = "postgres")]
            postgres: known(&store),
            #[cfg(feature = "sqlite")]
            sqlite: known(&store),
            store: Arc::new(store),
        }
    }

    /// The store, whichever it is.
    pub(crate) fn store(&self) -> &dyn ErasedStore {
        match self {
            #[cfg(feature = "memory")]
            Self::Memory(store) => store,
            Self::Shared { store, .. } => &**store,
        }
    }

    /// The store, if it supports transactions that a handler can take part in.
    #[cfg(feature = "postgres")]
    pub(crate) fn transactional(&self) -> Option<&PostgresStore> {
        match self {
            #[cfg(feature = "memory")]
            Self::Memory(_) => None,
            Self::Shared { postgres, .. } => postgres.as_ref(),
        }
    }

    /// The store, if it is this process's memory.
    #[cfg(all(feature = "memory", feature = "metrics"))]
    pub(crate) fn memory(&self) -> Option<&MemoryStore> {
        match self {
            Self::Memory(store) => Some(store),
            Self::Shared { .. } => None,
        }
    }

    /// Whether its contents never leave this process.
    pub(crate) fn is_memory(&self) -> bool {
        match self {
            #[cfg(feature = "memory")]
            Self::Memory(_) => true,
            Self::Shared { .. } => false,
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
            Self::Memory(store) => store.table().look(key, fingerprint, extracted),
            Self::Shared { .. } => None,
        }
    }

    /// [`Store::claim`].
    pub(crate) fn claim_at_once(&self, attempt: &Attempt) -> Option<Claim> {
        match self {
            #[cfg(feature = "memory")]
            Self::Memory(store) => Some(store.table().claim(attempt)),
            Self::Shared { .. } => None,
        }
    }

    /// [`Store::complete`], which also keeps the type that the last parameter was extracted as.
    pub(crate) fn complete_at_once(
        &self,
        attempt: &Attempt,
        record: &Bytes,
        ttl: Duration,
        extracted: Option<Extracted>,
    ) -> Option<Result<Hold, StoreError>> {
        match self {
            #[cfg(feature = "memory")]
            Self::Memory(store) => {
                Some(store.table().complete(attempt, record.clone(), ttl, extracted))
            }
            Self::Shared { .. } => None,
        }
    }

    /// [`Store::release`].
    pub(crate) fn release_at_once(&self, attempt: &Attempt) -> Option<()> {
        match self {
            #[cfg(feature = "memory")]
            Self::Memory(store) => {
                store.table().release(attempt);
                Some(())
            }
            #[cfg(feature = "sqlite")]
            Self::Shared { sqlite: Some(store), .. } => {
                store.release_at_once(attempt);
                Some(())
            }
            Self::Shared { .. } => None,
        }
    }
}

/// `store`, if it is an `S` or a shared handle to one.
#[cfg(any(feature = "memory", feature = "postgres", feature = "sqlite"))]
fn known<S: Store + Clone>(store: &impl Store) -> Option<S> {
    let store: &dyn std::any::Any = store;
    store.downcast_ref::<S>().or_else(|| store.downcast_ref::<Arc<S>>().map(|it| &**it)).cloned()
}
