//! [`Event`]: what listeners are told.

use std::time::Duration;

use super::ProblemCode;
use crate::store::StoreKey;

/// What a listener of [`on_event`](crate::Idempotency::on_event) is told: a decision, or a call of the
/// store that has ended.
///
/// It holds no raw key, no principal and no path.
///
/// ```
/// use idempotent_runtime::{Event, Idempotency, MemoryStore};
///
/// fn print(event: &Event<'_>) {
///     if let Some(decision) = event.decision() {
///         println!("{}: {}", event.operation(), decision.as_str());
///     }
/// }
///
/// let idempotency = Idempotency::new(MemoryStore::new()).on_event(print);
/// # let _ = idempotency;
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

/// What became of a request, or later of its key.
///
/// Each request that is not cancelled and not refused by an extractor gets one decision that
/// [`is_answer`](Self::is_answer). The others say what happened to its claim.
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
    /// It has no key, so it runs as if the attribute were absent. Told before its last parameter is
    /// extracted, or, if its handler takes a `Tx`, after the commit.
    WithoutKey,
    /// It runs although the store could not be asked ([`OnStoreError::Execute`]). Told before it runs.
    ///
    /// [`OnStoreError::Execute`]: crate::OnStoreError::Execute
    Unprotected,
    /// It ran, and its response is stored.
    Stored,
    /// It ran, and its response is too large, too slow or of a form that cannot be stored: duplicates
    /// get 409 `response_not_stored`.
    NotStorable,
    /// It ran, and whether it took effect is not known ([`Outcome::Unknown`], or cut short inside a
    /// boundary): duplicates get 409 `outcome_unknown`.
    ///
    /// [`Outcome::Unknown`]: crate::Outcome::Unknown
    Unknown,
    /// It ran, or was about to, and its key is free again: by its status, by `Outcome::Retryable`,
    /// after a panic (then without a status), or because it ended with its runtime.
    Released,
    /// It ran, and the store could not take its response. It is tried again in the background: one
    /// of [`StoredLate`](Self::StoredLate), [`GivenUp`](Self::GivenUp) and
    /// [`ClaimLost`](Self::ClaimLost) follows, unless the process ends before.
    Unstored,
    /// It got a stored response.
    Replayed(Replayed),
    /// It was refused, with this code.
    Refused(ProblemCode),
    /// A run no longer holds its claim, because it was not renewed in time or somebody freed it: another
    /// may run beside it. Told once a claim.
    ClaimLost,
    /// A response is stored after its caller was answered.
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
    /// The memory of this process, without extracting the request's last parameter again.
    Look,
    /// The memory of this process: a `MemoryStore`.
    Memory,
    /// A shared store.
    Store,
}

/// A call of a shared store that has ended. A `MemoryStore` is not called but looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreCall {
    /// What was asked of it.
    pub verb: StoreVerb,
    /// Whether it has answered.
    pub result: StoreResult,
    /// How long it took.
    pub time: Duration,
}

/// What is asked of a store.
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
    /// The begin of a transaction, with the wait for a connection.
    Begin,
    /// The commit of a transaction, with finding out about it if the answer is lost.
    Commit,
}

/// How a call of a store has ended.
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
    /// It was given up: `store_timeout` passed, or its caller has gone.
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

    /// The operation: the attribute's `scope`, or method and route template such as
    /// `POST /payments/{id}`; `other` if no template is known. Never a path.
    #[must_use]
    pub fn operation(&self) -> &str {
        self.operation.unwrap_or("other")
    }

    /// The digest of scope, principal and key, which is what logs and stores show. `None` if there is
    /// no key, or none that is valid.
    #[must_use]
    pub fn key(&self) -> Option<StoreKey> {
        self.key
    }

    /// The decision; `None` if this is a store call.
    #[must_use]
    pub fn decision(&self) -> Option<Decision> {
        match self.what {
            What::Decision(decision) => Some(decision),
            What::StoreCall(_) => None,
        }
    }

    /// The store call; `None` if this is a decision.
    #[must_use]
    pub fn store_call(&self) -> Option<StoreCall> {
        match self.what {
            What::Decision(_) => None,
            What::StoreCall(call) => Some(call),
        }
    }

    /// The status of the response that the handler gave, or that is replayed. `None` if there is no
    /// such response, or it is not known when the decision is made.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// How long the run took: from the claim to the end of the response's body, before anything is
    /// stored. `None` if nothing ran under a claim.
    #[must_use]
    pub fn run_time(&self) -> Option<Duration> {
        self.run_time
    }

    /// How long the request waited for others with its key. `None` if it did not have to.
    #[must_use]
    pub fn wait_time(&self) -> Option<Duration> {
        self.wait_time
    }
}

impl Decision {
    /// One word for it; of a refusal its code.
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

    /// Whether it says how a request is answered: of these each request gets one.
    #[must_use]
    pub const fn is_answer(self) -> bool {
        !matches!(self, Self::ClaimLost | Self::StoredLate | Self::GivenUp)
    }
}

impl Replayed {
    /// One word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Memory => "memory",
            Self::Store => "store",
        }
    }
}

impl StoreVerb {
    /// Its name.
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
    /// One word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Unanswered => "unanswered",
        }
    }
}
