//! [`conformance`]: what every [`Store`] has to pass, one file for each verb, and one for expiry.

mod claim;
mod complete;
mod expiry;
mod forget;
mod read;
mod release;
mod renew;
mod wait;

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Barrier},
    task::Poll,
    thread,
    time::Duration,
};

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::{Attempt, Claim, Fingerprint, Forgotten, Hold, KeyState, Store, StoreKey, Token};

const THREADS: usize = 16;
const ROUNDS: usize = 200;
/// Long enough never to pass within a check.
const LONG: Duration = Duration::from_secs(10 * 60);
/// Short enough to wait for.
const SHORT: Duration = Duration::from_secs(1);
/// How long a check waits for what should come after [`SHORT`], or at once.
const PATIENCE: Duration = Duration::from_secs(15);
/// The pause between looks at a key.
const PAUSE: Duration = Duration::from_millis(20);

/// Checks every promise of [`Store`] on `store`, with real threads and repeated rounds.
///
/// It uses fresh random keys, so it can run on a store that is in use, and takes some ten seconds:
/// leases and ttls are judged by the store's own clock. Do not pause tokio's.
///
/// # Panics
///
/// Panics at the first broken promise, saying which one.
///
/// ```
/// # #[cfg(feature = "memory")]
/// # #[tokio::main]
/// # async fn main() {
/// use idempotent_runtime::{MemoryStore, testing::conformance};
///
/// // In a `#[tokio::test]`, with your store:
/// conformance(MemoryStore::new()).await;
/// # }
/// # #[cfg(not(feature = "memory"))]
/// # fn main() {}
/// ```
pub async fn conformance(store: impl Store) {
    let suite = Suite { store: Arc::new(store) };
    suite.a_claim_is_read_by_others_and_kept_by_its_token().await;
    suite.keys_do_not_meet().await;
    suite.a_record_replaces_its_claim().await;
    suite.a_record_comes_back_byte_for_byte().await;
    suite.complete_is_fenced_by_the_token().await;
    suite.release_is_fenced_by_the_token().await;
    suite.renew_is_fenced_by_the_token().await;
    suite.read_tells_every_state_and_changes_none().await;
    suite.forget_frees_a_record().await;
    suite.forget_spares_a_run_unless_told_otherwise().await;
    suite.wait_returns_at_an_end_and_never_late().await;
    suite.a_cancelled_call_can_be_repeated().await;
    suite.one_of_many_threads_claims().await;
    suite.one_of_many_waiters_takes_over().await;
    suite.no_moment_shows_a_completed_key_as_absent().await;
    suite.one_of_many_threads_frees().await;
    suite.forget_comes_before_or_after_an_end().await;
    suite.a_record_expires_by_its_own_ttl().await;
    suite.what_is_left_of_a_ttl_falls().await;
    suite.a_claim_lapses_with_its_lease().await;
}

struct Suite<S> {
    store: Arc<S>,
}

fn fresh_key() -> StoreKey {
    StoreKey::from_bytes(*Token::random().as_bytes())
}

fn fingerprint(byte: u8) -> Fingerprint {
    Fingerprint::from_bytes([byte; 16])
}

/// An attempt at `key` by someone.
fn attempt_at(key: StoreKey) -> Attempt {
    Attempt::new(key, fingerprint(1), Token::random())
}

fn record(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

impl<S: Store> Suite<S> {
    async fn claim(&self, attempt: &Attempt) -> Claim {
        self.claim_for(attempt, LONG).await
    }

    async fn claim_for(&self, attempt: &Attempt, lease: Duration) -> Claim {
        self.store.claim(attempt, lease).await.expect("`claim` must not fail")
    }

    /// An attempt that has claimed a new key.
    async fn claimed(&self) -> Attempt {
        let attempt = attempt_at(fresh_key());
        let claim = self.claim(&attempt).await;
        assert!(is_claimed(&claim), "an absent key must be claimed, not {claim:?}");
        attempt
    }

    /// A new key with this record.
    async fn stored(&self, text: &'static str) -> Attempt {
        let attempt = self.claimed().await;
        self.assert_completes(
            &attempt,
            record(text),
            "`complete` by the holder must return `Held`",
        )
        .await;
        attempt
    }

    async fn complete(&self, attempt: &Attempt, record: Bytes, ttl: Duration) -> Hold {
        self.store.complete(attempt, record, ttl).await.expect("`complete` must not fail")
    }

    async fn renew(&self, attempt: &Attempt) -> Hold {
        self.store.renew(attempt, LONG).await.expect("`renew` must not fail")
    }

    async fn release(&self, attempt: &Attempt) {
        self.store.release(attempt).await.expect("`release` must not fail");
    }

    async fn read(&self, key: StoreKey) -> KeyState {
        self.store.read(key).await.expect("`read` must not fail")
    }

    async fn forget(&self, key: StoreKey, even_if_running: bool) -> Forgotten {
        self.store.forget(key, even_if_running).await.expect("`forget` must not fail")
    }

    /// What someone else sees. If the key is absent, this claims it.
    async fn look(&self, key: StoreKey) -> Claim {
        self.claim(&attempt_at(key)).await
    }

    async fn assert_completes(&self, attempt: &Attempt, record: Bytes, why: &str) {
        assert_eq!(self.complete(attempt, record, LONG).await, Hold::Held, "{why}");
    }

    async fn assert_cannot_complete(&self, attempt: &Attempt, why: &str) {
        assert_eq!(self.complete(attempt, record("late"), LONG).await, Hold::Lost, "{why}");
    }

    async fn assert_absent(&self, key: StoreKey, why: &str) {
        let claim = self.look(key).await;
        assert!(is_claimed(&claim), "{why}: the key must be absent, not {claim:?}");
    }

    async fn assert_running(&self, key: StoreKey, why: &str) {
        let claim = self.look(key).await;
        assert!(
            matches!(claim, Claim::Running { .. }),
            "{why}: the claim must be running, not {claim:?}"
        );
    }

    async fn assert_stored(&self, key: StoreKey, expected: &Bytes, why: &str) {
        match self.look(key).await {
            Claim::Stored { record, .. } => assert_eq!(&record, expected, "{why}: the record"),
            claim => panic!("{why}: the key must hold its record, not {claim:?}"),
        }
    }

    /// Runs `check` on many threads at once.
    async fn on_threads<T, F>(
        &self,
        check: impl Fn(Suite<S>) -> F + Clone + Send + 'static,
    ) -> Vec<T>
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        let start = Arc::new(Barrier::new(THREADS));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (runtime, start, check) =
                    (Handle::current(), Arc::clone(&start), check.clone());
                let suite = Suite { store: Arc::clone(&self.store) };
                thread::spawn(move || {
                    start.wait();
                    runtime.block_on(check(suite))
                })
            })
            .collect();
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().map(|thread| thread.join().expect("no check panics")).collect()
        });
        joined.await.expect("joining does not panic")
    }
}

fn is_claimed(claim: &Claim) -> bool {
    matches!(claim, Claim::Claimed { .. })
}

/// Checks the fingerprint of a run that [`attempt_at`] began; it need not be known yet.
fn assert_own_fingerprint(found: Option<Fingerprint>) {
    assert!(
        found.is_none_or(|found| found == fingerprint(1)),
        "a running claim must show its own fingerprint"
    );
}

/// Checks the remaining time of a lease of [`LONG`] in a store that answered the claim with
/// `lease`.
fn assert_lease_left(left: Option<Duration>, lease: Option<Duration>) {
    assert_eq!(
        left.is_some(),
        lease.is_some(),
        "`lease_left` must be set if and only if the claim has a lease"
    );
    assert!(left.is_none_or(|left| left <= LONG), "`lease_left` exceeds the lease");
}

/// Starts a call and drops it, like a caller that goes away.
async fn poll_once<F: Future>(call: F) {
    let mut call = pin!(call);
    std::future::poll_fn(|cx| {
        let _ = call.as_mut().poll(cx);
        Poll::Ready(())
    })
    .await;
}
