//! One key, addressed directly: for operators and tests, which inspect and free it, and for work
//! outside of a request.
//!
//! It has the same digest as in a request with the key, because [`key`](super::key) computes both.

mod error;
mod forget;
mod run;
#[cfg(feature = "postgres")]
mod run_tx;
mod state;

use std::{fmt, hash::Hash, sync::Arc, time::Duration};

pub use self::{
    error::RunError,
    forget::Forget,
    run::Done,
    state::{OperationState, StoredKind},
};
use super::{
    fields::{Digest, Fields, version},
    hasher::StableHasher,
    key::{Key, operation, store_key},
    settings::Engine,
    text::{OptionalDisplay, Text},
};
use crate::store::{Fingerprint, StoreKey};

/// An operation of a service, with [`key`](Self::key) to address one of its keys.
///
/// [`Idempotency::operation`](crate::Idempotency::operation) creates it. It never shows its
/// principal.
///
/// ```
/// use idempotent_runtime::{Idempotency, MemoryStore};
///
/// let idempotency = Idempotency::new(MemoryStore::new());
/// let payments = idempotency.operation("POST /payments").principal("customer-7");
/// assert_eq!(format!("{payments:?}"), r#"Operation { name: "POST /payments", .. }"#);
/// ```
#[derive(Clone)]
pub struct Operation {
    engine: Arc<Engine>,
    max_value_bytes: usize,
    name: Arc<str>,
    principal: Option<Text>,
}

/// One key of an operation: the key that a request with the operation's name, this principal and
/// this key has.
///
/// [`state`](Self::state) returns what the store holds, [`forget`](Self::forget) frees the key, and
/// [`run`](Self::run) does work under it. It shows its digest, never the key or the principal.
///
/// ```
/// use idempotent_runtime::{Idempotency, MemoryStore};
///
/// let idempotency = Idempotency::new(MemoryStore::new());
/// let key = idempotency.operation("charge-card").principal("tenant-7").key("message-1");
/// assert!(format!("{key:?}").contains(&key.digest().to_string()));
/// ```
#[derive(Clone)]
#[must_use = "a key does nothing by itself"]
pub struct OperationKey {
    engine: Arc<Engine>,
    max_value_bytes: usize,
    operation: Arc<str>,
    key: Key,
    digest: StoreKey,
    fingerprint: Option<Digest>,
    ttl: Duration,
    wait: Duration,
}

impl Operation {
    pub(crate) fn new(engine: Arc<Engine>, max_value_bytes: usize, name: Arc<str>) -> Self {
        Self { engine, max_value_bytes, name, principal: None }
    }

    /// Whose key it is, like the attribute's `principal`: a [`Display`](fmt::Display) value, or an
    /// [`Option`] of one. `None` is itself a principal.
    ///
    /// ```
    /// # use idempotent_runtime::{Idempotency, MemoryStore};
    /// # let idempotency = Idempotency::new(MemoryStore::new());
    /// let operation = idempotency.operation("POST /payments");
    /// let ours = operation.clone().principal("customer-7").key("1").digest();
    /// assert_ne!(ours, operation.clone().principal("customer-8").key("1").digest());
    /// assert_eq!(operation.clone().principal(None::<String>).key("1").digest(), operation.key("1").digest());
    /// ```
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "so that an `Option` may be passed")]
    pub fn principal<Kind>(self, principal: impl OptionalDisplay<Kind>) -> Self {
        Self { principal: principal.text(), ..self }
    }

    /// The key with this text, read as the attribute reads a header by default: quotes are removed,
    /// and a UUID is lower-cased. Text that is not a valid header value is used unchanged.
    ///
    /// With `format = "any"` an upper-case UUID is a different key: use
    /// [`key_exact`](Self::key_exact).
    ///
    /// ```
    /// # use idempotent_runtime::{Idempotency, MemoryStore};
    /// # let idempotency = Idempotency::new(MemoryStore::new());
    /// let operation = idempotency.operation("POST /payments");
    /// let digest = |key: &str| operation.clone().key(key).digest();
    /// let bare = digest("c9a7d1f0-52e6-4b1e-8f0a-3d7d7a0b6c11");
    /// assert_eq!(digest("\"C9A7D1F0-52E6-4B1E-8F0A-3D7D7A0B6C11\""), bare);
    /// ```
    pub fn key(self, key: impl fmt::Display) -> OperationKey {
        let text = Text::from_display(&key);
        let read = Key::as_header(text.as_str());
        self.with(read.unwrap_or_else(|| Key::exact(text.as_str())))
    }

    /// The key with exactly this text: as the attribute's `key = …` takes it, and `format = "any"`
    /// without surrounding quotes.
    ///
    /// ```
    /// # use idempotent_runtime::{Idempotency, MemoryStore};
    /// # let idempotency = Idempotency::new(MemoryStore::new());
    /// let operation = idempotency.operation("POST /payments");
    /// let digest = |key: &str| operation.clone().key_exact(key).digest();
    /// assert_ne!(digest("\"order-7\""), digest("order-7"));
    /// ```
    pub fn key_exact(self, key: impl fmt::Display) -> OperationKey {
        let key = Key::exact(Text::from_display(&key).as_str());
        self.with(key)
    }

    fn with(self, key: Key) -> OperationKey {
        let Self { engine, max_value_bytes, name, principal } = self;
        let principal = principal.as_ref().map(Text::as_str);
        let digest = store_key(&mut operation(&name), principal, &key, &engine.digesting);
        OperationKey {
            engine,
            max_value_bytes,
            operation: name,
            key,
            digest,
            fingerprint: None,
            ttl: Duration::from_secs(3600),
            wait: Duration::from_secs(10),
        }
    }
}

impl OperationKey {
    /// The digest that identifies the key in logs, spans and stores.
    ///
    /// ```
    /// # use idempotent_runtime::{Idempotency, MemoryStore};
    /// # let idempotency = Idempotency::new(MemoryStore::new());
    /// let digest = idempotency.operation("charge-card").key("message-1").digest();
    /// assert_eq!(digest.to_string().len(), 32);
    /// ```
    #[must_use]
    pub fn digest(&self) -> StoreKey {
        self.digest
    }

    /// What must be equal for two calls of [`run`](Self::run) with this key to be about the same:
    /// else the second gets [`RunError::KeyReused`]. By default the key alone.
    ///
    /// Its hash has to be the same in every process, as that of strings, numbers and structs of them
    /// is; of a `HashMap` it is not.
    ///
    /// ```
    /// # use idempotent_runtime::{Idempotency, MemoryStore, RunError};
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let key = Idempotency::new(MemoryStore::new()).operation("charge-card").key("message-1");
    /// let charge = |_| async { Ok::<_, ()>("charged".to_owned()) };
    /// key.clone().fingerprint("EUR 10").run(charge).await.unwrap();
    /// let other = key.fingerprint("EUR 20").run(charge).await;
    /// assert!(matches!(other, Err(RunError::KeyReused)));
    /// # });
    /// ```
    pub fn fingerprint<T: Hash + ?Sized>(self, value: &T) -> Self {
        let mut hasher = StableHasher::new();
        value.hash(&mut hasher);
        Self { fingerprint: Some(hasher.digest()), ..self }
    }

    /// How long the value of a [`run`](Self::run) is kept, counted from when it was stored. Default:
    /// 1 hour.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    ///
    /// use idempotent_runtime::{Idempotency, MemoryStore, OperationState};
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let key = Idempotency::new(MemoryStore::new()).operation("charge-card").key("message-1");
    /// let day = Duration::from_secs(24 * 60 * 60);
    /// key.clone().ttl(day).run(|_| async { Ok::<_, ()>(7) }).await.unwrap();
    /// let OperationState::Stored { expires_at, .. } = key.state().await? else { panic!() };
    /// assert!(expires_at > SystemTime::now() + day / 2);
    /// # Ok::<_, idempotent_runtime::StoreError>(())
    /// # }).unwrap();
    /// ```
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    /// How long a [`run`](Self::run) waits for another one with the key. Default: 10 seconds.
    ///
    /// ```
    /// use std::{future::pending, time::Duration};
    ///
    /// use idempotent_runtime::{Idempotency, MemoryStore, RunError};
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let key = Idempotency::new(MemoryStore::new()).operation("charge-card").key("message-1");
    /// let (started, has_started) = tokio::sync::oneshot::channel();
    /// tokio::spawn(key.clone().run(|_| async {
    ///     started.send(()).unwrap();
    ///     pending::<Result<u32, ()>>().await
    /// }));
    /// has_started.await.unwrap();
    /// let second = key.wait(Duration::ZERO).run(|_| async { Ok::<_, ()>(7) }).await;
    /// assert!(matches!(second, Err(RunError::InProgress)));
    /// # });
    /// ```
    pub fn wait(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// The fingerprint of a call, salted with the key like a request's.
    fn salted(&self) -> Fingerprint {
        let mut fields = Fields::new(version::JOB_FINGERPRINT);
        if let Some(digest) = &self.fingerprint {
            fields.put(digest);
        }
        self.key.put_into(&mut fields);
        Fingerprint::from_bytes(fields.digest(&self.engine.digesting))
    }
}

/// Never shows the principal.
impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Never shows the key or the principal.
impl fmt::Debug for OperationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperationKey")
            .field("operation", &self.operation)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}
