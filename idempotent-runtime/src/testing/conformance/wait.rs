//! `wait`: returns when a run ends, in whatever way, and never late.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{LONG, PATIENCE, ROUNDS, Suite, is_claimed, record};
use crate::{Attempt, Claim, Forgotten, Store, StoreKey};

/// How a run ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Completed,
    Released,
    Forgotten,
}

impl<S: Store> Suite<S> {
    pub(super) async fn wait_returns_at_an_end_and_never_late(&self) {
        let attempt = self.claimed().await;
        let at_most = Duration::from_millis(200);
        tokio::time::timeout(PATIENCE, self.store.wait(attempt.key, at_most))
            .await
            .expect("`wait` must return after `at_most`");
        self.release(&attempt).await;
        // The end came before the call, so this must not take `LONG`.
        self.wait_for_end(attempt.key).await;

        for end in [End::Completed, End::Released, End::Forgotten] {
            let attempt = self.claimed().await;
            let (store, key) = (Arc::clone(&self.store), attempt.key);
            let waiter = tokio::spawn(async move { Suite { store }.wait_for_end(key).await });
            tokio::task::yield_now().await;
            self.end(&attempt, end).await;
            waiter
                .await
                .unwrap_or_else(|_| panic!("`wait` must return at the end of a run: {end:?}"));
        }
    }

    async fn end(&self, attempt: &Attempt, end: End) {
        match end {
            End::Completed => {
                self.assert_completes(
                    attempt,
                    record("done"),
                    "`complete` by the holder must return `Held`",
                )
                .await;
            }
            End::Released => self.release(attempt).await,
            End::Forgotten => {
                let forgotten = self.forget(attempt.key, true).await;
                assert_eq!(forgotten, Forgotten::Freed, "`forget` of a running key");
            }
        }
    }

    /// Waits until `key` no longer runs, as the runtime does.
    async fn wait_for_end(&self, key: StoreKey) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            tokio::time::timeout(PATIENCE, self.store.wait(key, LONG))
                .await
                .expect("`wait` must not miss the end of a claim");
            if !matches!(self.look(key).await, Claim::Running { .. }) {
                return;
            }
            assert!(Instant::now() < deadline, "a claim that ended is still shown as running");
        }
    }

    pub(super) async fn one_of_many_waiters_takes_over(&self) {
        for _ in 0..ROUNDS / 20 {
            let attempt = self.claimed().await;
            let key = attempt.key;
            let won = Arc::new(AtomicBool::new(false));
            let waiters = self.on_threads(move |suite| {
                let won = Arc::clone(&won);
                async move {
                    loop {
                        // A thread that starts late waits for the one that has already taken over.
                        let won_before = won.load(Ordering::SeqCst);
                        match suite.look(key).await {
                            Claim::Running { .. } if !won_before => {
                                suite.store.wait(key, Duration::from_millis(100)).await;
                            }
                            claim => {
                                won.store(true, Ordering::SeqCst);
                                return is_claimed(&claim);
                            }
                        }
                    }
                }
            });
            let (claims, ()) = tokio::join!(waiters, async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                self.release(&attempt).await;
            });
            let winners = claims.iter().filter(|claimed| **claimed).count();
            assert_eq!(winners, 1, "exactly one waiter must take over a released key");
        }
    }
}
