//! The conformance suite: what every [`Store`] has to pass.
//!
//! ```
//! # #[cfg(feature = "memory")]
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use idempotent_runtime::{MemoryStore, testing};
//!
//! testing::conformance(MemoryStore::new()).await;
//! # });
//! ```

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::{Claim, Fingerprint, Store, StoreKey, Token};

const THREADS: usize = 16;
const ROUNDS: usize = 200;
/// Long enough never to pass within a check.
const LONG: Duration = Duration::from_mins(10);
/// Short enough to wait for.
const SHORT: Duration = Duration::from_secs(1);
/// How long a check waits for an expiry that ought to come after [`SHORT`].
const PATIENCE: Duration = Duration::from_secs(15);

/// Checks every promise of [`Store`] on `store`, with real threads and repeated rounds.
///
/// It uses fresh random keys, so it can run on a store that is in use, and takes some ten seconds:
/// leases and ttls are judged by the store's own clock.
///
/// # Panics
///
/// At the first broken promise, saying which one.
pub async fn conformance(store: impl Store) {
    let suite = Suite { store: Arc::new(store) };
    suite.a_claim_is_read_by_others_and_kept_by_its_token().await;
    suite.a_record_replaces_its_claim().await;
    suite.a_record_comes_back_byte_for_byte().await;
    suite.complete_is_fenced_by_the_token().await;
    suite.release_is_fenced_by_the_token().await;
    suite.renew_is_fenced_by_the_token().await;
    suite.keys_do_not_meet().await;
    suite.wait_returns_at_an_end_and_never_late().await;
    suite.a_cancelled_call_can_be_repeated().await;
    suite.one_of_many_threads_claims().await;
    suite.one_of_many_waiters_takes_over().await;
    suite.no_moment_shows_a_completed_key_as_absent().await;
    suite.a_record_expires_by_its_own_ttl().await;
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

fn record(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

impl<S: Store> Suite<S> {
    async fn claim(&self, key: StoreKey, token: Token) -> Claim {
        self.claim_for(key, token, LONG).await
    }

    async fn claim_for(&self, key: StoreKey, token: Token, lease: Duration) -> Claim {
        self.store.claim(key, fingerprint(1), token, lease).await.expect("`claim` works")
    }

    /// A fresh key, claimed by the token.
    async fn claimed(&self) -> (StoreKey, Token) {
        let (key, token) = (fresh_key(), Token::random());
        let claim = self.claim(key, token).await;
        assert!(is_claimed(&claim), "an absent key is claimed, not {claim:?}");
        (key, token)
    }

    async fn complete(&self, key: StoreKey, token: Token, record: Bytes, ttl: Duration) -> bool {
        self.store.complete(key, token, record, ttl).await.expect("`complete` works")
    }

    async fn renew(&self, key: StoreKey, token: Token) -> bool {
        self.store.renew(key, token, LONG).await.expect("`renew` works")
    }

    async fn release(&self, key: StoreKey, token: Token) {
        self.store.release(key, token).await.expect("`release` works");
    }

    /// What somebody else sees. A key that this finds absent is claimed by it.
    async fn look(&self, key: StoreKey) -> Claim {
        self.claim(key, Token::random()).await
    }

    async fn assert_absent(&self, key: StoreKey, why: &str) {
        let claim = self.look(key).await;
        assert!(is_claimed(&claim), "{why}: the key is absent, not {claim:?}");
    }

    async fn assert_running(&self, key: StoreKey, why: &str) {
        let claim = self.look(key).await;
        assert!(
            matches!(claim, Claim::Running { .. }),
            "{why}: the claim is running, not {claim:?}"
        );
    }

    async fn assert_stored(&self, key: StoreKey, expected: &Bytes, why: &str) {
        match self.look(key).await {
            Claim::Stored { record, .. } => assert_eq!(&record, expected, "{why}: the record"),
            claim => panic!("{why}: the record is there, not {claim:?}"),
        }
    }

    async fn a_claim_is_read_by_others_and_kept_by_its_token(&self) {
        let (key, token) = self.claimed().await;
        match self.store.claim(key, fingerprint(2), Token::random(), LONG).await {
            Ok(Claim::Running { fingerprint: found, .. }) => {
                assert_eq!(found, fingerprint(1), "a running claim shows its own fingerprint");
            }
            claim => panic!("a claimed key is running for other tokens, not {claim:?}"),
        }
        let again = self.claim(key, token).await;
        assert!(is_claimed(&again), "a claim repeated with its token is `Claimed`, not {again:?}");
        self.assert_running(key, "after a repeated claim").await;
    }

    async fn a_record_replaces_its_claim(&self) {
        let (key, token) = self.claimed().await;
        assert!(self.complete(key, token, record("kept"), LONG).await, "the holder completes");
        match self.store.claim(key, fingerprint(2), Token::random(), LONG).await {
            Ok(Claim::Stored { fingerprint: found, record: kept }) => {
                assert_eq!(found, fingerprint(1), "a record shows the fingerprint of its claim");
                assert_eq!(kept, record("kept"));
            }
            claim => panic!("a completed key is stored, not {claim:?}"),
        }
        let own = self.claim(key, token).await;
        assert!(matches!(own, Claim::Stored { .. }), "also for the token that stored it: {own:?}");
    }

    async fn a_record_comes_back_byte_for_byte(&self) {
        let all_bytes = (0..=u8::MAX).collect::<Bytes>();
        for record in [Bytes::new(), all_bytes.clone(), all_bytes.repeat(128).into()] {
            let (key, token) = self.claimed().await;
            assert!(self.complete(key, token, record.clone(), LONG).await, "the holder completes");
            self.assert_stored(key, &record, "byte for byte").await;
        }
    }

    async fn complete_is_fenced_by_the_token(&self) {
        let (key, token) = self.claimed().await;
        let stranger = Token::random();
        assert!(
            !self.complete(key, stranger, record("stolen"), LONG).await,
            "a stranger completes"
        );
        self.assert_running(key, "after a stranger's `complete`").await;
        assert!(self.complete(key, token, record("first"), LONG).await, "the holder completes");
        assert!(self.complete(key, token, record("first"), LONG).await, "and may repeat it");
        assert!(!self.complete(key, stranger, record("late"), LONG).await, "a stranger overwrites");
        self.assert_stored(key, &record("first"), "after a stranger's late `complete`").await;
        let absent = fresh_key();
        assert!(
            !self.complete(absent, token, record("none"), LONG).await,
            "nobody's key completes"
        );
        self.assert_absent(absent, "after `complete` without a claim").await;
    }

    async fn release_is_fenced_by_the_token(&self) {
        let (key, token) = self.claimed().await;
        self.release(key, Token::random()).await;
        self.assert_running(key, "after a stranger's `release`").await;
        self.release(key, token).await;
        self.assert_absent(key, "after `release`").await;
        self.release(key, token).await;
        self.assert_running(key, "after a late `release` of an older token").await;

        let (key, token) = self.claimed().await;
        self.complete(key, token, record("kept"), LONG).await;
        self.release(key, token).await;
        self.assert_stored(key, &record("kept"), "after `release` of a completed key").await;
        self.release(fresh_key(), token).await;
    }

    async fn renew_is_fenced_by_the_token(&self) {
        let (key, token) = self.claimed().await;
        assert!(self.renew(key, token).await, "the holder renews");
        assert!(!self.renew(key, Token::random()).await, "a stranger renews");
        self.assert_running(key, "after renewals").await;
        self.complete(key, token, record("kept"), LONG).await;
        assert!(!self.renew(key, token).await, "a completed claim is renewed");
        self.assert_stored(key, &record("kept"), "after `renew` of a completed key").await;
        let absent = fresh_key();
        assert!(!self.renew(absent, token).await, "an absent claim is renewed");
        self.assert_absent(absent, "after `renew` without a claim").await;
    }

    async fn keys_do_not_meet(&self) {
        let (first, token) = self.claimed().await;
        let second = fresh_key();
        assert!(is_claimed(&self.claim(second, token).await), "one token may hold two keys");
        self.complete(first, token, record("first"), LONG).await;
        self.assert_running(second, "after another key of its token completed").await;
        self.release(second, token).await;
        self.assert_stored(first, &record("first"), "after another key of its token was released")
            .await;
    }

    async fn wait_returns_at_an_end_and_never_late(&self) {
        let (key, token) = self.claimed().await;
        let at_most = Duration::from_millis(200);
        tokio::time::timeout(PATIENCE, self.store.wait(key, 0, at_most))
            .await
            .expect("`wait` returns after `at_most`");
        self.release(key, token).await;
        // The end came before the call, so this must not take `LONG`.
        self.wait_for_end(key).await;

        let (key, token) = self.claimed().await;
        let store = Arc::clone(&self.store);
        let waiter = tokio::spawn(async move { Suite { store }.wait_for_end(key).await });
        tokio::task::yield_now().await;
        self.complete(key, token, record("done"), LONG).await;
        waiter.await.expect("`wait` returns at the end of the claim");
    }

    /// Waits until `key` no longer runs, as the runtime does.
    async fn wait_for_end(&self, key: StoreKey) {
        let deadline = Instant::now() + PATIENCE;
        for attempt in 0.. {
            tokio::time::timeout(PATIENCE, self.store.wait(key, attempt, LONG))
                .await
                .expect("`wait` does not miss the end of a claim");
            if !matches!(self.look(key).await, Claim::Running { .. }) {
                return;
            }
            assert!(Instant::now() < deadline, "a claim that ended is still shown as running");
        }
    }

    async fn a_cancelled_call_can_be_repeated(&self) {
        for _ in 0..ROUNDS / 10 {
            let (key, token) = (fresh_key(), Token::random());
            poll_once(self.store.claim(key, fingerprint(1), token, LONG)).await;
            let claim = self.claim(key, token).await;
            assert!(is_claimed(&claim), "a claim can be repeated after a cancelled one: {claim:?}");
            poll_once(self.store.wait(key, 0, LONG)).await;
            poll_once(self.store.renew(key, token, LONG)).await;
            poll_once(self.store.complete(key, token, record("kept"), LONG)).await;
            assert!(
                self.complete(key, token, record("kept"), LONG).await,
                "`complete` can be repeated after a cancelled one"
            );
            self.assert_stored(key, &record("kept"), "after cancelled calls").await;
        }
    }

    async fn one_of_many_threads_claims(&self) {
        for round in 0..ROUNDS {
            let key = fresh_key();
            let claims = self.on_threads(move |suite| async move { suite.look(key).await }).await;
            let winners = claims.iter().filter(|claim| is_claimed(claim)).count();
            assert_eq!(winners, 1, "threads that claimed one key at once, in round {round}");
        }
    }

    async fn one_of_many_waiters_takes_over(&self) {
        for _ in 0..ROUNDS / 20 {
            let (key, token) = self.claimed().await;
            let won = Arc::new(AtomicBool::new(false));
            let waiters = self.on_threads(move |suite| {
                let won = Arc::clone(&won);
                async move {
                    for attempt in 0.. {
                        // A thread that starts late waits for the one that took over already.
                        let won_before = won.load(Ordering::SeqCst);
                        match suite.look(key).await {
                            Claim::Running { .. } if !won_before => {
                                suite.store.wait(key, attempt, Duration::from_millis(100)).await;
                            }
                            claim => {
                                won.store(true, Ordering::SeqCst);
                                return is_claimed(&claim);
                            }
                        }
                    }
                    false
                }
            });
            let (claims, ()) = tokio::join!(waiters, async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                self.release(key, token).await;
            });
            let winners = claims.iter().filter(|claimed| **claimed).count();
            assert_eq!(winners, 1, "waiters that took over a released key");
        }
    }

    async fn no_moment_shows_a_completed_key_as_absent(&self) {
        for _ in 0..ROUNDS / 4 {
            let (key, token) = self.claimed().await;
            let readers = self.on_threads(move |suite| async move { suite.look(key).await });
            let (claims, stored) =
                tokio::join!(readers, self.complete(key, token, record("kept"), LONG));
            assert!(stored, "the holder completes");
            assert!(
                !claims.iter().any(is_claimed),
                "a key was claimed while its holder completed it"
            );
        }
    }

    async fn a_record_expires_by_its_own_ttl(&self) {
        let (short, token) = self.claimed().await;
        let (long, other) = self.claimed().await;
        self.complete(short, token, record("short"), SHORT).await;
        self.complete(long, other, record("long"), LONG).await;
        self.assert_stored(short, &record("short"), "before the ttl has passed").await;
        let stored = Instant::now();
        // Reading all the time: that must not extend it.
        while matches!(self.look(short).await, Claim::Stored { .. }) {
            assert!(stored.elapsed() < PATIENCE, "a record outlives its ttl");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(stored.elapsed() > SHORT / 2, "a record is gone long before its ttl");
        self.assert_stored(long, &record("long"), "with a longer ttl").await;
        let late = self.complete(short, token, record("late"), LONG).await;
        assert!(!late, "the token of an expired record completes");
    }

    /// Only for stores whose claims can be orphaned; the others say `lease: None`.
    async fn a_claim_lapses_with_its_lease(&self) {
        let (key, token) = (fresh_key(), Token::random());
        let Claim::Claimed { lease: Some(_) } = self.claim_for(key, token, SHORT).await else {
            return;
        };
        let (renewed, keeper) = (fresh_key(), Token::random());
        self.claim_for(renewed, keeper, SHORT).await;
        assert!(self.renew(renewed, keeper).await, "the holder renews");

        let since = Instant::now();
        let successor = Token::random();
        loop {
            match self.claim(key, successor).await {
                Claim::Claimed { .. } => break,
                Claim::Running { lease_left: Some(left), .. } => {
                    assert!(left <= SHORT, "`lease_left` is more than the lease");
                }
                claim => panic!("a claim with a lease runs with `lease_left`, not {claim:?}"),
            }
            assert!(since.elapsed() < PATIENCE, "a claim outlives its lease");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(since.elapsed() > SHORT / 2, "a claim lapses long before its lease");
        self.assert_running(renewed, "with a renewed lease").await;

        assert!(!self.renew(key, token).await, "a lapsed claim is renewed");
        assert!(!self.complete(key, token, record("late"), LONG).await, "a lapsed claim completes");
        self.release(key, token).await;
        self.assert_running(key, "after the calls of a lapsed token").await;
        assert!(
            self.complete(key, successor, record("kept"), LONG).await,
            "the successor completes"
        );
        self.assert_stored(key, &record("kept"), "of the successor").await;
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

/// Starts a call and drops it, as a caller does that goes away.
async fn poll_once<F: Future>(call: F) {
    let mut call = pin!(call);
    std::future::poll_fn(|cx| {
        let _ = call.as_mut().poll(cx);
        Poll::Ready(())
    })
    .await;
}
