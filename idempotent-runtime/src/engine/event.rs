//! [`Event`]: what listeners receive.

use std::time::Duration;

use super::ProblemCode;
use crate::store::StoreKey;

/// What an [`on_event`](crate::Idempotency::on_event) listener receives: a decision, or a finished
/// call to the store.
///
/// It contains no raw key, no principal and no path.
///
/// ```
/// use idempotent_runtime::{Event, Idempotency, MemoryStore};
///
/// fn line(event: &Event<'_>) -> Option<String> {
///     event.decision().map(|decision| format!("{}: {}", event.operation(), decision.as_str()))
/// }
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let (sender, lines) = std::sync::mpsc::channel();
/// let idempotency = Idempotency::new(MemoryStore::new())
///     .on_event(move |event| sender.send(line(event)).unwrap());
/// let key = idempotency.operation("charge-card").key("message-1");
/// key.run(|_| async { Ok::<_, ()>(7) }).await.unwrap();
/// assert_eq!(lines.try_recv().unwrap().unwrap(), "charge-card: stored");
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct Event<'e> {
    operation: Option<&'e str>,
    key: Option<StoreKey>,
    what: What,
    status: Option<u16>,
    run_time: Option<Duration>,
    wait_time: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Decision(Decision),
    StoreCall(StoreCall),
}

/// What happened to a request, or later to its key.
///
/// Each request that is neither cancelled nor rejected by an extractor gets exactly one decision
/// that [`is_answer`](Self::is_answer). The others describe what happened to its claim.
///
/// ```
/// use idempotent_runtime::{Decision, ProblemCode, Replayed};
///
/// assert_eq!(Decision::Stored.as_str(), "stored");
/// assert_eq!(Decision::Replayed(Replayed::Store).as_str(), "replayed");
/// assert_eq!(Decision::Refused(ProblemCode::KeyReused).as_str(), "key_reused");
/// assert!(Decision::Stored.is_answer() && !Decision::ClaimLost.is_answer());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Decision {
    /// It has no key, so it runs as if the attribute were absent. Reported before its last
    /// parameter is extracted or, if its handler takes a `Tx`, after the commit.
    WithoutKey,
    /// It runs although the store could not be asked ([`OnStoreError::Execute`]). Reported before
    /// it runs.
    ///
    /// [`OnStoreError::Execute`]: crate::OnStoreError::Execute
    Unprotected,
    /// It ran, and its response is stored.
    Stored,
    /// It ran, but its response is too large, too slow or of a form that cannot be stored:
    /// duplicates get 409 `response_not_stored`.
    NotStorable,
    /// It ran, and it is unknown whether it took effect ([`Outcome::Unknown`], or cut short inside
    /// a boundary): duplicates get 409 `outcome_unknown`.
    ///
    /// [`Outcome::Unknown`]: crate::Outcome::Unknown
    Unknown,
    /// It ran, or was about to, and its key is free again: because of its status,
    /// `Outcome::Retryable`, a panic (then without a status), or because it ended with its runtime.
    Released,
    /// It ran, but the store did not accept its response. Storing is retried in the background: one
    /// of [`StoredLate`](Self::StoredLate), [`GivenUp`](Self::GivenUp) and
    /// [`ClaimLost`](Self::ClaimLost) follows, unless the process ends first.
    Unstored,
    /// It got a stored response.
    Replayed(Replayed),
    /// It was refused, with this code.
    Refused(ProblemCode),
    /// A run no longer holds its claim, because it was not renewed in time or someone freed it:
    /// another may run alongside it. Reported once per claim.
    ClaimLost,
    /// A response was stored after its caller had been answered.
    StoredLate,
    /// A response could not be stored for one lease: a retry of its request runs again.
    GivenUp,
}

/// Where a replayed response came from.
///
/// ```
/// use idempotent_runtime::Replayed;
///
/// assert_eq!(Replayed::Look.as_str(), "look");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Replayed {
    /// This process's `MemoryStore`, without extracting the request's last parameter again.
    Look,
    /// The memory of this process: a `MemoryStore`.
    Memory,
    /// A shared store.
    Store,
    /// This process's copy of what the shared store holds (`Idempotency::near_cache`), whether
    /// before or after the request's last parameter was extracted again.
    Near,
}

/// A finished call to a shared store. A `MemoryStore` is read directly, not called.
///
/// ```
/// # use std::sync::Arc;
/// use idempotent_runtime::{Idempotency, StoreCall, StoreResult, StoreVerb};
///
/// # let store = Arc::new(Arc::new(idempotent_runtime::MemoryStore::new()));
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let (sender, calls) = std::sync::mpsc::channel();
/// // `store` is shared: a `RedisStore`, say.
/// let idempotency = Idempotency::new(store)
///     .on_event(move |event| sender.send(event.store_call()).unwrap());
/// let key = idempotency.operation("charge-card").key("message-1");
/// key.run(|_| async { Ok::<_, ()>(7) }).await.unwrap();
/// let StoreCall { verb, result, .. } = calls.try_recv().unwrap().unwrap();
/// assert_eq!((verb, result), (StoreVerb::Claim, StoreResult::Ok));
/// # });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreCall {
    /// Which method was called.
    pub verb: StoreVerb,
    /// Whether the store answered.
    pub result: StoreResult,
    /// How long it took.
    pub time: Duration,
}

/// A method of a store.
///
/// ```
/// use idempotent_runtime::StoreVerb;
///
/// assert_eq!(StoreVerb::Claim.as_str(), "claim");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreVerb {
    /// [`Store::claim`](crate::Store::claim), or the claim of a `Tx`.
    Claim,
    /// [`Store::renew`](crate::Store::renew).
    Renew,
    /// [`Store::complete`](crate::Store::complete), or the record of a `Tx`.
    Complete,
    /// [`Store::release`](crate::Store::release).
    Release,
    /// [`Store::read`](crate::Store::read).
    Read,
    /// Beginning a transaction, including the wait for a connection.
    Begin,
    /// Committing a transaction, including the check that follows if the answer is lost.
    Commit,
}

/// How a call to a store ended.
///
/// ```
/// use idempotent_runtime::StoreResult;
///
/// assert_eq!(StoreResult::Unanswered.as_str(), "unanswered");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreResult {
    /// With an answer.
    Ok,
    /// With an error.
    Error,
    /// It was abandoned: `store_timeout` passed, or its caller went away.
    Unanswered,
}

impl<'e> Event<'e> {
    pub(crate) fn decided(
        operation: Option<&'e str>,
        key: Option<StoreKey>,
        decision: Decision,
    ) -> Self {
        let what = What::Decision(decision);
        Self { operation, key, what, status: None, run_time: None, wait_time: None }
    }

    pub(super) fn called(
        operation: Option<&'e str>,
        key: Option<StoreKey>,
        call: StoreCall,
    ) -> Self {
        let what = What::StoreCall(call);
        Self { operation, key, what, status: None, run_time: None, wait_time: None }
    }

    pub(crate) fn with_status(self, status: Option<u16>) -> Self {
        Self { status, ..self }
    }

    pub(super) fn with_times(
        self,
        run_time: Option<Duration>,
        wait_time: Option<Duration>,
    ) -> Self {
        Self { run_time, wait_time, ..self }
    }

    /// The operation: the attribute's `scope`, or method and route template, such as
    /// `POST /payments/{id}`; `other` if no template is known. Never a path.
    ///
    /// ```
    /// # use std::sync::mpsc;
    /// # use idempotent_runtime::{Idempotency, MemoryStore};
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let (sender, operations) = mpsc::channel();
    /// let idempotency = Idempotency::new(MemoryStore::new())
    ///     .on_event(move |event| sender.send(event.operation().to_owned()).unwrap());
    /// let key = idempotency.operation("charge-card").key("message-1");
    /// key.run(|_| async { Ok::<_, ()>(7) }).await.unwrap();
    /// assert_eq!(operations.try_recv().unwrap(), "charge-card");
    /// # });
    /// ```
    #[must_use]
    pub fn operation(&self) -> &str {
        self.operation.unwrap_or("other")
    }

    /// The digest of scope, principal and key, which is what logs and stores show. `None` if there
    /// is no valid key.
    ///
    /// ```
    /// # use std::sync::mpsc;
    /// # use idempotent_runtime::{Idempotency, MemoryStore};
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let (sender, keys) = mpsc::channel();
    /// let idempotency = Idempotency::new(MemoryStore::new())
    ///     .on_event(move |event| sender.send(event.key()).unwrap());
    /// let key = idempotency.operation("charge-card").key("message-1");
    /// key.clone().run(|_| async { Ok::<_, ()>(7) }).await.unwrap();
    /// assert_eq!(keys.try_recv().unwrap(), Some(key.digest()));
    /// # });
    /// ```
    #[must_use]
    pub fn key(&self) -> Option<StoreKey> {
        self.key
    }

    /// The decision; `None` if this is a store call.
    ///
    /// ```
    /// # use std::sync::mpsc;
    /// # use idempotent_runtime::{Decision, Idempotency, MemoryStore};
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let (sender, decisions) = mpsc::channel();
    /// let idempotency = Idempotency::new(MemoryStore::new())
    ///     .on_event(move |event| sender.send(event.decision()).unwrap());
    /// let key = idempotency.operation("charge-card").key("message-1");
    /// key.run(|_| async { Ok::<_, ()>(7) }).await.unwrap();
    /// assert_eq!(decisions.try_recv().unwrap(), Some(Decision::Stored));
    /// # });
    /// ```
    #[must_use]
    pub fn decision(&self) -> Option<Decision> {
        match self.what {
            What::Decision(decision) => Some(decision),
            What::StoreCall(_) => None,
        }
    }

    /// The store call; `None` if this is a decision.
    ///
    /// ```
    /// # use std::sync::{Arc, mpsc};
    /// # use idempotent_runtime::{Idempotency, StoreVerb};
    /// # let store = Arc::new(Arc::new(idempotent_runtime::MemoryStore::new()));
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let (sender, verbs) = mpsc::channel();
    /// // `store` is shared: a `RedisStore`, say.
    /// let idempotency = Idempotency::new(store).on_event(move |event| {
    ///     if let Some(call) = event.store_call() {
    ///         sender.send(call.verb).unwrap();
    ///     }
    /// });
    /// let key = idempotency.operation("charge-card").key("message-1");
    /// key.run(|_| async { Ok::<_, ()>(7) }).await.unwrap();
    /// assert_eq!(verbs.try_iter().collect::<Vec<_>>(), [StoreVerb::Claim, StoreVerb::Complete]);
    /// # });
    /// ```
    #[must_use]
    pub fn store_call(&self) -> Option<StoreCall> {
        match self.what {
            What::Decision(_) => None,
            What::StoreCall(call) => Some(call),
        }
    }

    /// The status of the response that the handler returned or that is replayed. `None` if there is
    /// no such response, or its status is not known when the decision is made.
    ///
    /// ```
    /// # use std::sync::mpsc;
    /// # use idempotent_runtime::{Idempotency, MemoryStore};
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let (sender, statuses) = mpsc::channel();
    /// let idempotency = Idempotency::new(MemoryStore::new())
    ///     .on_event(move |event| sender.send(event.status()).unwrap());
    /// let key = idempotency.operation("charge-card").key("message-1");
    /// key.run(|_| async { Ok::<_, ()>(7) }).await.unwrap();
    /// // A job has no response.
    /// assert_eq!(statuses.try_recv().unwrap(), None);
    /// # });
    /// ```
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// How long the run took: from the claim to the end of the response's body, before anything is
    /// stored. `None` if nothing ran under a claim.
    ///
    /// ```
    /// # use std::{sync::mpsc, time::Duration};
    /// # use idempotent_runtime::{Idempotency, MemoryStore};
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let (sender, times) = mpsc::channel();
    /// let idempotency = Idempotency::new(MemoryStore::new())
    ///     .on_event(move |event| sender.send(event.run_time()).unwrap());
    /// let key = idempotency.operation("charge-card").key("message-1");
    /// key.clone().run(|_| async { Ok::<_, ()>(7) }).await.unwrap();
    /// key.run(|_| async { Ok::<_, ()>(8) }).await.unwrap();
    /// assert!(times.try_recv().unwrap().is_some());
    /// // A replay runs nothing.
    /// assert_eq!(times.try_recv().unwrap(), None);
    /// # });
    /// ```
    #[must_use]
    pub fn run_time(&self) -> Option<Duration> {
        self.run_time
    }

    /// How long the request waited for others with its key. `None` if it did not have to.
    ///
    /// ```
    /// # use std::sync::mpsc;
    /// # use idempotent_runtime::{Idempotency, MemoryStore};
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let (sender, times) = mpsc::channel();
    /// let idempotency = Idempotency::new(MemoryStore::new())
    ///     .on_event(move |event| sender.send(event.wait_time()).unwrap());
    /// let key = idempotency.operation("charge-card").key("message-1");
    /// key.run(|_| async { Ok::<_, ()>(7) }).await.unwrap();
    /// assert_eq!(times.try_recv().unwrap(), None);
    /// # });
    /// ```
    #[must_use]
    pub fn wait_time(&self) -> Option<Duration> {
        self.wait_time
    }
}

impl Decision {
    /// The decision in one word; for a refusal, its code.
    ///
    /// ```
    /// # use idempotent_runtime::{Decision, ProblemCode};
    /// assert_eq!(Decision::StoredLate.as_str(), "stored_late");
    /// assert_eq!(Decision::Refused(ProblemCode::InvalidKey).as_str(), "invalid_key");
    /// ```
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WithoutKey => "without_key",
            Self::Unprotected => "unprotected",
            Self::Stored => "stored",
            Self::NotStorable => "not_storable",
            Self::Unknown => "unknown",
            Self::Released => "released",
            Self::Unstored => "unstored",
            Self::Replayed(_) => "replayed",
            Self::Refused(code) => code.as_str(),
            Self::ClaimLost => "claim_lost",
            Self::StoredLate => "stored_late",
            Self::GivenUp => "given_up",
        }
    }

    /// Whether it says how a request was answered: each request gets exactly one of these.
    ///
    /// ```
    /// # use idempotent_runtime::{Decision, Replayed};
    /// assert!(Decision::Replayed(Replayed::Memory).is_answer());
    /// // The caller had its answer before.
    /// assert!(!Decision::StoredLate.is_answer());
    /// ```
    #[must_use]
    pub const fn is_answer(self) -> bool {
        !matches!(self, Self::ClaimLost | Self::StoredLate | Self::GivenUp)
    }
}

impl Replayed {
    /// The source in one word.
    ///
    /// ```
    /// # use idempotent_runtime::Replayed;
    /// assert_eq!(Replayed::Store.as_str(), "store");
    /// ```
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Memory => "memory",
            Self::Store => "store",
            Self::Near => "near",
        }
    }
}

impl StoreVerb {
    /// The method's name.
    ///
    /// ```
    /// # use idempotent_runtime::StoreVerb;
    /// assert_eq!(StoreVerb::Renew.as_str(), "renew");
    /// ```
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Renew => "renew",
            Self::Complete => "complete",
            Self::Release => "release",
            Self::Read => "read",
            Self::Begin => "begin",
            Self::Commit => "commit",
        }
    }
}

impl StoreResult {
    /// The result in one word.
    ///
    /// ```
    /// # use idempotent_runtime::StoreResult;
    /// assert_eq!(StoreResult::Ok.as_str(), "ok");
    /// ```
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Unanswered => "unanswered",
        }
    }
}
