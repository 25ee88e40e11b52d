//! [`Pollers`]: waiting on a store that does not notify anyone when a claim ends.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

use super::StoreKey;

const FIRST_PAUSE: Duration = Duration::from_millis(15);
const MAX_PAUSE: Duration = Duration::from_millis(250);
/// A probe that takes longer ends the wait: the following claim shows whether the store is healthy.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// The polls of one store in this process, for implementing [`Store::wait`](super::Store::wait) in
/// a store that cannot tell when a claim ends.
///
/// However many requests wait for one key, one of them polls it, every 15 to 250 ms with jitter,
/// and the others share what it finds. If that one goes away, the next continues at its pace.
///
/// ```
/// use std::time::Duration;
///
/// use idempotent_runtime::{Pollers, StoreKey};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let pollers = Pollers::default();
/// let probes = std::sync::atomic::AtomicU32::new(0);
/// let is_running = || async { probes.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 2 };
/// pollers.wait(StoreKey::from_bytes([1; 16]), Duration::from_secs(60), is_running).await;
/// assert_eq!(probes.into_inner(), 3);
/// # });
/// ```
#[derive(Debug, Default)]
pub struct Pollers {
    polls: Mutex<HashMap<StoreKey, Shared>>,
}

/// A poll and how many wait for it; removed from the map with the last of them.
#[derive(Debug)]
struct Shared {
    poll: Arc<Poll>,
    waiters: usize,
}

#[derive(Debug)]
struct Poll {
    /// The holder of the one permit polls; closed when the poll has ended.
    turn: Semaphore,
    probes: AtomicU32,
}

impl Pollers {
    /// Returns when `is_running` returns `false`, or after `at_most`.
    ///
    /// The first probe comes after a pause, because the caller has just seen the key running.
    /// `is_running` should return `false` if it cannot tell, and a probe that takes longer than two
    /// seconds counts as `false`: the claim that follows shows what is wrong.
    ///
    /// ```
    /// # use std::{sync::atomic::{AtomicBool, Ordering}, time::Duration};
    /// # use idempotent_runtime::{Pollers, StoreKey};
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let is_running = AtomicBool::new(true);
    /// let probe = || async { is_running.swap(false, Ordering::Relaxed) };
    /// let (key, at_most) = (StoreKey::from_bytes([1; 16]), Duration::from_secs(60));
    /// Pollers::default().wait(key, at_most, probe).await;
    /// assert!(!is_running.into_inner());
    /// # });
    /// ```
    pub async fn wait<F>(&self, key: StoreKey, at_most: Duration, is_running: impl Fn() -> F)
    where
        F: Future<Output = bool>,
    {
        let waiter = self.join(key);
        let poll_or_share = async {
            // An error means that it was closed: whoever polled has seen the end.
            let Ok(_turn) = waiter.poll.turn.acquire().await else { return };
            loop {
                sleep(waiter.poll.next_pause()).await;
                if !timeout(PROBE_LIMIT, is_running()).await.unwrap_or(false) {
                    waiter.end();
                    return;
                }
            }
        };
        // To the caller, a timeout and the end of the run are the same: it looks again.
        let _ = timeout(at_most, poll_or_share).await;
    }

    fn join(&self, key: StoreKey) -> Waiter<'_> {
        let mut polls = self.polls();
        let shared = polls.entry(key).or_insert_with(|| Shared { poll: Poll::new(), waiters: 0 });
        shared.waiters += 1;
        Waiter { pollers: self, key, poll: Arc::clone(&shared.poll) }
    }

    fn polls(&self) -> MutexGuard<'_, HashMap<StoreKey, Shared>> {
        // Nothing in a critical section panics halfway through a change.
        self.polls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Poll {
    fn new() -> Arc<Self> {
        Arc::new(Self { turn: Semaphore::new(1), probes: AtomicU32::new(0) })
    }

    fn next_pause(&self) -> Duration {
        jittered(pause(self.probes.fetch_add(1, Ordering::Relaxed)))
    }
}

/// The pause before a probe, each half as long again as the one before.
fn pause(probes: u32) -> Duration {
    let longer = |pause: Duration, _| MAX_PAUSE.min(pause + pause / 2);
    // The longest pause is reached within eight steps.
    (0..probes.min(8)).fold(FIRST_PAUSE, longer)
}

/// `pause` ± 25 %, so that processes that started together drift apart.
pub(crate) fn jittered(pause: Duration) -> Duration {
    let [byte, ..] = uuid::Uuid::new_v4().into_bytes();
    pause * (384 + u32::from(byte)) / 512
}

/// One request that waits for a poll.
struct Waiter<'a> {
    pollers: &'a Pollers,
    key: StoreKey,
    poll: Arc<Poll>,
}

impl Waiter<'_> {
    /// Sends all waiters away; whoever comes later starts a new poll.
    fn end(&self) {
        let mut polls = self.pollers.polls();
        if polls.get(&self.key).is_some_and(|shared| Arc::ptr_eq(&shared.poll, &self.poll)) {
            polls.remove(&self.key);
        }
        drop(polls);
        self.poll.turn.close();
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut polls = self.pollers.polls();
        let Some(shared) = polls.get_mut(&self.key) else { return };
        if !Arc::ptr_eq(&shared.poll, &self.poll) {
            return;
        }
        shared.waiters -= 1;
        if shared.waiters == 0 {
            polls.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::atomic::AtomicBool,
    };

    use tokio::{task::JoinSet, time::Instant};

    use super::*;

    const LONG: Duration = Duration::from_secs(10 * 60);

    fn key(byte: u8) -> StoreKey {
        StoreKey::from_bytes([byte; 16])
    }

    /// A claim that someone else holds, and how often it was probed.
    #[derive(Default)]
    struct Claimed {
        pollers: Pollers,
        ended: AtomicBool,
        probes: AtomicU32,
    }

    impl Claimed {
        async fn wait(&self, at_most: Duration) {
            let is_running = || {
                self.probes.fetch_add(1, Ordering::Relaxed);
                ready(!self.ended.load(Ordering::Relaxed))
            };
            self.pollers.wait(key(1), at_most, is_running).await;
        }

        fn probes(&self) -> u32 {
            self.probes.load(Ordering::Relaxed)
        }

        fn end(&self) {
            self.ended.store(true, Ordering::Relaxed);
        }
    }

    fn waiters(claimed: &Arc<Claimed>, count: usize, at_most: Duration) -> JoinSet<()> {
        (0..count)
            .map(|_| {
                let claimed = Arc::clone(claimed);
                async move { claimed.wait(at_most).await }
            })
            .collect()
    }

    #[test]
    fn pauses_grow_from_15_to_250_ms_within_a_quarter() {
        assert_eq!(pause(0), Duration::from_millis(15));
        assert!((0..20).all(|probes| pause(probes) <= pause(probes + 1)));
        assert_eq!(pause(8), Duration::from_millis(250));
        assert_eq!(pause(u32::MAX), Duration::from_millis(250));
        let pauses: Vec<_> = (0..1000).map(|_| jittered(Duration::from_millis(100))).collect();
        let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
        assert!(*least >= Duration::from_millis(75) && *least < Duration::from_millis(85));
        assert!(*most <= Duration::from_millis(125) && *most > Duration::from_millis(115));
    }

    #[tokio::test(start_paused = true)]
    async fn many_waiters_share_one_poll_and_its_result() {
        let claimed = Arc::new(Claimed::default());
        let all = waiters(&claimed, 100, LONG);
        sleep(Duration::from_secs(10)).await;
        let probes = claimed.probes();
        assert!((30..=60).contains(&probes), "{probes} probes in 10 s");
        claimed.end();
        let since = Instant::now();
        all.join_all().await;
        assert!(since.elapsed() <= MAX_PAUSE * 5 / 4);
        assert!(claimed.probes() <= probes + 2);
        assert!(claimed.pollers.polls().is_empty(), "an ended poll is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_at_its_own_limit_and_leaves_the_others() {
        let claimed = Arc::new(Claimed::default());
        let since = Instant::now();
        let short = waiters(&claimed, 1, Duration::from_millis(40));
        tokio::task::yield_now().await;
        let long = waiters(&claimed, 2, Duration::from_secs(5));
        short.join_all().await;
        assert_eq!(since.elapsed().as_millis() / 5, 8);
        let probes = claimed.probes();
        long.join_all().await;
        assert!(since.elapsed() >= Duration::from_secs(5), "they waited for their own limit");
        assert!(claimed.probes() > probes + 10, "the next waiter went on polling");
        assert!(claimed.pollers.polls().is_empty(), "a poll without waiters is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn another_waiter_goes_on_when_the_polling_one_is_cancelled() {
        let claimed = Arc::new(Claimed::default());
        let mut polling = waiters(&claimed, 1, LONG);
        sleep(Duration::from_secs(1)).await;
        let others = waiters(&claimed, 3, LONG);
        sleep(Duration::from_secs(1)).await;
        polling.shutdown().await;
        let probes = claimed.probes();
        sleep(Duration::from_secs(5)).await;
        let more = claimed.probes() - probes;
        assert!((15..=30).contains(&more), "{more} probes in 5 s: the pace was not kept");
        claimed.end();
        others.join_all().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_after_the_end_starts_at_the_first_pause() {
        let claimed = Claimed::default();
        claimed.end();
        for _ in 0..3 {
            let since = Instant::now();
            claimed.wait(LONG).await;
            assert!(since.elapsed() <= Duration::from_millis(20));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_polled_apart() {
        let pollers = Pollers::default();
        let waited = tokio::join!(
            timeout(LONG, pollers.wait(key(1), LONG * 2, || ready(true))),
            timeout(LONG, pollers.wait(key(2), LONG * 2, || ready(false))),
        );
        assert!(waited.0.is_err() && waited.1.is_ok());
        assert!(pollers.polls().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_without_an_answer_ends_the_wait() {
        let since = Instant::now();
        Pollers::default().wait(key(1), LONG, pending).await;
        assert!(since.elapsed() <= PROBE_LIMIT + FIRST_PAUSE * 2);
    }
}
