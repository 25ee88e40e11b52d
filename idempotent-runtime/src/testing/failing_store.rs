//! [`FailingStore`]: wraps a store, and fails when a test says so.

use std::{
    collections::VecDeque,
    future::{Future, pending},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;

use crate::{Attempt, Claim, Forgotten, Hold, KeyState, Store, StoreError, StoreKey};

/// What happens to one call of a [`FailingStore`].
///
/// | | the call is made | the caller gets |
/// |---|---|---|
/// | [`Works`](Self::Works) | yes | the answer |
/// | [`NotSent`](Self::NotSent) | no | an error that says so: [`StoreError::not_sent`] |
/// | [`Fails`](Self::Fails) | no | an error that leaves this open |
/// | [`FailsAfter`](Self::FailsAfter) | yes | the same error |
/// | [`Hangs`](Self::Hangs) | no | nothing, ever |
/// | [`HangsAfter`](Self::HangsAfter) | yes | nothing, ever |
/// | [`Late`](Self::Late) | yes | the answer, that much later |
///
/// The library cannot tell `Fails` from `FailsAfter`, nor the last three from each other before
/// `store_timeout` has passed, and has to behave correctly in each case. `wait` has no errors; it
/// returns early instead, which any store may do.
///
/// ```
/// use idempotent_runtime::testing::Fault;
///
/// // Two calls that fail, then one whose answer is lost.
/// let faults = [Fault::Fails, Fault::Fails, Fault::FailsAfter];
/// assert_ne!(faults[0], faults[2]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// No fault.
    Works,
    /// The call reaches no server, as if its connection were refused.
    NotSent,
    /// The call fails without having been made, which its caller cannot know.
    Fails,
    /// The call is made, but its answer is lost.
    FailsAfter,
    /// The call is not made and never answers, as if the network swallowed it.
    Hangs,
    /// The call is made but never answers.
    HangsAfter,
    /// The call is made, and its answer comes this much later, by tokio's clock.
    Late(Duration),
}

/// One method of a [`FailingStore`]. A clone is another handle to the same method.
///
/// ```
/// # #[cfg(feature = "memory")]
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use idempotent_runtime::{
///     MemoryStore, Store, StoreKey,
///     testing::{FailingStore, Fault},
/// };
///
/// let store = FailingStore::new(MemoryStore::new());
/// store.read.next([Fault::Works, Fault::Fails]);
///
/// let key = StoreKey::from_bytes([7; 16]);
/// assert!(store.read(key).await.is_ok());
/// assert!(store.read(key).await.is_err());
/// assert!(store.read(key).await.is_ok());
/// assert_eq!(store.read.calls(), 3);
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct Verb(Arc<Mutex<Faults>>);

#[derive(Debug)]
struct Faults {
    next: VecDeque<Fault>,
    always: Fault,
    calls: usize,
}

impl Verb {
    fn new() -> Self {
        let faults = Faults { next: VecDeque::new(), always: Fault::Works, calls: 0 };
        Self(Arc::new(Mutex::new(faults)))
    }

    /// What happens to the next calls, in order: `[Fault::Fails; 2]` makes two fail.
    ///
    /// Faults left over from earlier calls to `next` come first.
    pub fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults().next.extend(faults);
    }

    /// What happens to every call for which [`next`](Self::next) sets nothing, until changed.
    pub fn always(&self, fault: Fault) {
        self.faults().always = fault;
    }

    /// Makes every call work from now on. A call that hangs stays hanging: its answer is lost.
    pub fn mend(&self) {
        let mut faults = self.faults();
        faults.next.clear();
        faults.always = Fault::Works;
    }

    /// How many calls have begun so far, whatever happened to them.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.faults().calls
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        // Nothing in a critical section panics halfway through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault of a call that begins now.
    fn begin(&self) -> Fault {
        let mut faults = self.faults();
        faults.calls += 1;
        faults.next.pop_front().unwrap_or(faults.always)
    }

    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match self.begin() {
            Fault::Works => call.await,
            Fault::NotSent => Err(StoreError::not_sent(ASKED_FOR)),
            Fault::Fails => Err(StoreError::new(ASKED_FOR)),
            Fault::FailsAfter => {
                call.await?;
                Err(StoreError::new(ASKED_FOR))
            }
            Fault::Hangs => pending().await,
            Fault::HangsAfter => {
                call.await?;
                pending().await
            }
            Fault::Late(by) => {
                let answer = call.await;
                tokio::time::sleep(by).await;
                answer
            }
        }
    }
}

/// The source of each error.
const ASKED_FOR: &str = "a fault that the test asked for";

/// Wraps a store, which holds the keys, and fails when a test says so. A clone is another handle to
/// both.
///
/// Each method has a field with its name that sets what happens to its calls: to the
/// [next](Verb::next) ones, or to [all](Verb::always) from now on. Nothing is left to chance, and
/// nothing takes time except a [`Fault::Late`], which follows tokio's clock, paused or not.
///
/// ```
/// # #[cfg(feature = "memory")]
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use std::time::Duration;
///
/// use idempotent_runtime::{
///     Attempt, Claim, Fingerprint, MemoryStore, Store, StoreKey, Token,
///     testing::{FailingStore, Fault},
/// };
///
/// let store = FailingStore::new(MemoryStore::new());
/// let (key, fingerprint) = (StoreKey::from_bytes([7; 16]), Fingerprint::from_bytes([1; 16]));
/// let attempt = Attempt::new(key, fingerprint, Token::random());
///
/// // The claim is made, and its answer is lost: a second try with its token finds it.
/// store.claim.next([Fault::FailsAfter]);
/// assert!(store.claim(&attempt, Duration::from_secs(30)).await.is_err());
/// let claim = store.claim(&attempt, Duration::from_secs(30)).await.unwrap();
/// assert!(matches!(claim, Claim::Claimed { .. }));
/// assert_eq!(store.claim.calls(), 2);
///
/// // The server is gone until it is mended.
/// store.always(Fault::NotSent);
/// assert!(store.release(&attempt).await.is_err());
/// store.mend();
/// assert!(store.release(&attempt).await.is_ok());
/// # });
/// ```
///
/// To the library it is a store that several processes may share, even around a
/// [`MemoryStore`](crate::MemoryStore). It does not support transactions, even around a
/// `PostgresStore`: a handler that takes `Tx` answers 500 `misconfigured`.
#[derive(Debug, Clone)]
pub struct FailingStore<S> {
    /// Its `claim`, which the library tries twice before giving up.
    pub claim: Verb,
    /// Its `renew`.
    pub renew: Verb,
    /// Its `complete`, which the library keeps retrying in the background.
    pub complete: Verb,
    /// Its `release`.
    pub release: Verb,
    /// Its `wait`.
    pub wait: Verb,
    /// Its `read`.
    pub read: Verb,
    /// Its `forget`.
    pub forget: Verb,
    store: S,
}

impl<S> FailingStore<S> {
    /// Wraps `store`; every call works.
    pub fn new(store: S) -> Self {
        let [claim, renew, complete, release, wait, read, forget] =
            std::array::from_fn(|_| Verb::new());
        Self { claim, renew, complete, release, wait, read, forget, store }
    }

    /// What happens to every call of every method for which [`Verb::next`] sets nothing, until
    /// changed.
    pub fn always(&self, fault: Fault) {
        for verb in self.verbs() {
            verb.always(fault);
        }
    }

    /// Makes every call of every method work from now on.
    pub fn mend(&self) {
        for verb in self.verbs() {
            verb.mend();
        }
    }

    /// The wrapped store.
    pub fn inner(&self) -> &S {
        &self.store
    }

    fn verbs(&self) -> [&Verb; 7] {
        let Self { claim, renew, complete, release, wait, read, forget, .. } = self;
        [claim, renew, complete, release, wait, read, forget]
    }
}

impl<S: Default> Default for FailingStore<S> {
    fn default() -> Self {
        Self::new(S::default())
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: Store> Store for FailingStore<S> {
    async fn claim(&self, attempt: &Attempt, lease: Duration) -> Result<Claim, StoreError> {
        self.claim.call(self.store.claim(attempt, lease)).await
    }

    async fn renew(&self, attempt: &Attempt, lease: Duration) -> Result<Hold, StoreError> {
        self.renew.call(self.store.renew(attempt, lease)).await
    }

    async fn complete(
        &self,
        attempt: &Attempt,
        record: Bytes,
        ttl: Duration,
    ) -> Result<Hold, StoreError> {
        self.complete.call(self.store.complete(attempt, record, ttl)).await
    }

    async fn release(&self, attempt: &Attempt) -> Result<(), StoreError> {
        self.release.call(self.store.release(attempt)).await
    }

    async fn wait(&self, key: StoreKey, at_most: Duration) {
        let wait = async {
            self.store.wait(key, at_most).await;
            Ok(())
        };
        // An error means an early return.
        let _ = self.wait.call(wait).await;
    }

    async fn read(&self, key: StoreKey) -> Result<KeyState, StoreError> {
        self.read.call(self.store.read(key)).await
    }

    async fn forget(&self, key: StoreKey, even_if_running: bool) -> Result<Forgotten, StoreError> {
        self.forget.call(self.store.forget(key, even_if_running)).await
    }
}
