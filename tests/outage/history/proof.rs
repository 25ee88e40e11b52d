//! Proves that the history catches a faulty store, and never mistakes one cause for another. Run
//! before each run of the harness, which would otherwise report 0 of anything it does not see.

use std::{
    future::{Future, ready},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use idempotent_axum::{
    Attempt, Claim, Fingerprint, Forgotten, Hold, KeyState, Store, StoreError, StoreKey, Token,
};

use super::{ASKED, BESIDE, Cause, FORGOTTEN, FREED, History, LAPSED, Observed, Span, UNCLAIMED};

const LEASE: Duration = Duration::from_millis(50);
const TTL: Duration = Duration::from_secs(3600);

/// A store that immediately forgets what it acknowledges.
struct Forgetful;

impl Store for Forgetful {
    async fn claim(&self, _: &Attempt, lease: Duration) -> Result<Claim, StoreError> {
        Ok(Claim::Claimed { lease: Some(lease) })
    }

    async fn renew(&self, _: &Attempt, _: Duration) -> Result<Hold, StoreError> {
        Ok(Hold::Held)
    }

    async fn complete(&self, _: &Attempt, _: Bytes, _: Duration) -> Result<Hold, StoreError> {
        Ok(Hold::Held)
    }

    async fn release(&self, _: &Attempt) -> Result<(), StoreError> {
        Ok(())
    }

    fn wait(&self, _: StoreKey, _: Duration) -> impl Future<Output = ()> + Send {
        ready(())
    }

    async fn read(&self, _: StoreKey) -> Result<KeyState, StoreError> {
        Err(StoreError::new("not asked"))
    }

    async fn forget(&self, _: StoreKey, _: bool) -> Result<Forgotten, StoreError> {
        Err(StoreError::new("not asked"))
    }
}

/// One key on that store.
struct Key {
    store: Observed<Forgetful>,
    history: Arc<History>,
}

impl Key {
    fn new() -> Self {
        let history = Arc::new(History::default());
        Self { store: Observed::new(Forgetful, &history), history }
    }

    async fn claim(&self) -> Attempt {
        let (key, fingerprint) = (StoreKey::from_bytes([1; 16]), Fingerprint::from_bytes([2; 16]));
        let attempt = Attempt::new(key, fingerprint, Token::random());
        let claim = self.store.claim(&attempt, LEASE);
        ASKED.scope("key".into(), claim).await.expect("it says yes to everything");
        attempt
    }

    /// A run that ends, under its own claim.
    async fn run(&self) -> Attempt {
        let attempt = self.claim().await;
        self.history.run("key").end();
        attempt
    }

    async fn stored(&self) {
        let attempt = self.run().await;
        let hold = self.store.complete(&attempt, Bytes::new(), TTL).await;
        assert_eq!(hold.expect("it says yes to everything"), Hold::Held);
    }

    fn causes(&self, outages: &[Span], loses: bool) -> Vec<Cause> {
        self.history.second_runs(outages, LEASE, loses)
    }
}

/// Panics if a second run is given the wrong cause.
pub(crate) fn prove() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("threads start");
    runtime.block_on(async {
        let once = Key::new();
        once.stored().await;
        assert_eq!(once.causes(&[], false), []);

        let forgotten = Key::new();
        forgotten.stored().await;
        forgotten.run().await;
        assert_eq!(forgotten.causes(&[], false), [FORGOTTEN]);
        assert_eq!(forgotten.causes(&[], true), [Cause::WriteLost]);

        let beside = Key::new();
        beside.run().await;
        beside.history.run("key").end();
        assert_eq!(beside.causes(&[], true), [BESIDE]);

        let unclaimed = Key::new();
        unclaimed.history.run("key").end();
        unclaimed.history.run("key").end();
        assert_eq!(unclaimed.causes(&[], true), [UNCLAIMED]);

        let freed = Key::new();
        let attempt = freed.run().await;
        freed.store.release(&attempt).await.expect("it says yes to everything");
        freed.run().await;
        assert_eq!(freed.causes(&[], true), [FREED]);

        let killed = Key::new();
        killed.claim().await;
        drop(killed.history.run("key"));
        killed.run().await;
        assert_eq!(killed.causes(&[], false), [Cause::Killed]);

        let begin = Instant::now();
        let lapsed = Key::new();
        lapsed.run().await;
        let (short, long) = (Span { begin, end: Instant::now() }, 2 * LEASE);
        thread::sleep(long);
        lapsed.run().await;
        let outage = Span { begin, end: Instant::now() };
        assert_eq!(lapsed.causes(&[outage], false), [Cause::LeaseLost]);
        assert_eq!(lapsed.causes(&[short], false), [LAPSED], "it was back in time");
        assert_eq!(lapsed.causes(&[], true), [LAPSED], "there was no outage");
    });
}
