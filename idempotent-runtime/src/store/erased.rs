//! [`ErasedStore`]: the `dyn`-compatible twin of [`Store`], and the handles that are stores
//! themselves.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Attempt, Claim, Forgotten, Hold, KeyState, Store, StoreError, StoreKey};

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Generates each method's erased form, and its form on a shared handle.
macro_rules! verbs {
    ($($verb:ident($subject:ident: $(&$borrowed:ident)? $($copied:ident)? $(, $argument:ident: $ty:ty)*) -> $output:ty;)*) => {
        /// [`Store`], callable through a pointer.
        #[allow(clippy::elidable_lifetime_names, reason = "most of the verbs need the name")]
        pub(crate) trait ErasedStore: Send + Sync {
            $(fn $verb<'a>(
                &'a self,
                $subject: $(&'a $borrowed)? $($copied)?,
                $($argument: $ty),*
            ) -> BoxFuture<'a, $output>;)*
        }

        #[allow(clippy::elidable_lifetime_names, reason = "most of the verbs need the name")]
        impl<S: Store> ErasedStore for S {
            $(fn $verb<'a>(
                &'a self,
                $subject: $(&'a $borrowed)? $($copied)?,
                $($argument: $ty),*
            ) -> BoxFuture<'a, $output> {
                Box::pin(Store::$verb(self, $subject, $($argument),*))
            })*
        }

        /// A shared handle is the store that it points to.
        #[deny(clippy::missing_trait_methods)]
        impl<S: Store> Store for Arc<S> {
            $(fn $verb(
                &self,
                $subject: $(&$borrowed)? $($copied)?,
                $($argument: $ty),*
            ) -> impl Future<Output = $output> + Send {
                S::$verb(self, $subject, $($argument),*)
            })*
        }
    };
}

verbs! {
    claim(attempt: &Attempt, lease: Duration) -> Result<Claim, StoreError>;
    renew(attempt: &Attempt, lease: Duration) -> Result<Hold, StoreError>;
    complete(attempt: &Attempt, record: Bytes, ttl: Duration) -> Result<Hold, StoreError>;
    release(attempt: &Attempt) -> Result<(), StoreError>;
    wait(key: StoreKey, at_most: Duration) -> ();
    read(key: StoreKey) -> Result<KeyState, StoreError>;
    forget(key: StoreKey, even_if_running: bool) -> Result<Forgotten, StoreError>;
}
