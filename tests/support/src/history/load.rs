//! [`Load`]: instances that call a store at random.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use idempotent_runtime::{Attempt, Claim, Fingerprint, Store, StoreError, StoreKey, Token};
use tokio::{runtime::Handle, time::timeout};

use super::{History, Recorded, Recorder};
use crate::{Counter, lock};

/// Longer than any test, so that nothing expires.
const LONG: Duration = Duration::from_hours(1);
/// How long an instance waits for an answer.
const LIMIT: Duration = Duration::from_millis(500);
/// How long it leaves a server alone that has failed.
const PAUSE: Duration = Duration::from_millis(5);
/// The threads of each instance.
const THREADS: usize = 2;
/// One in this many calls is abandoned at once.
const CALLS_PER_CANCELLED: usize = 100;
/// How many keys are in use at a time.
const KEYS: usize = 3;
/// How many attempts at a key are remembered, for anyone to repeat.
const ATTEMPTS: usize = 6;
/// After this many failed calls a key is left alone, since each of them may still be applied.
const FAILURES: usize = 6;

/// Threads that call random methods on a few keys. Their choices come from the seed; their
/// interleaving does not, so no history happens twice.
#[derive(Debug)]
pub struct Load {
    recorder: Recorder,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    keys: [Mutex<Used>; KEYS],
    answered: Counter,
    failed: Counter,
    stop: AtomicBool,
}

/// A key in use.
#[derive(Debug)]
struct Used {
    key: StoreKey,
    attempts: Vec<Attempt>,
    holder: Option<Attempt>,
    calls_left: usize,
    failures_left: usize,
}

impl Used {
    fn fresh(random: &mut Random) -> Self {
        Self {
            key: StoreKey::from_bytes(random.bytes()),
            attempts: Vec::new(),
            holder: None,
            calls_left: 20 + random.below(100),
            failures_left: FAILURES,
        }
    }

    /// A new attempt, which is remembered.
    fn attempt(&mut self, random: &mut Random) -> Attempt {
        let bytes = random.bytes();
        // With its own fingerprint, so that every answer shows whose claim it saw.
        let (fingerprint, token) = (Fingerprint::from_bytes(bytes), Token::from_bytes(bytes));
        let attempt = Attempt::new(self.key, fingerprint, token);
        if self.attempts.len() == ATTEMPTS {
            self.attempts.remove(0);
        }
        self.attempts.push(attempt.clone());
        attempt
    }

    /// Usually the one that may hold the key, sometimes another that has asked for it.
    fn known(&mut self, random: &mut Random) -> Attempt {
        match &self.holder {
            Some(holder) if random.below(3) > 0 => holder.clone(),
            _ if self.attempts.is_empty() => self.attempt(random),
            _ => self.attempts[random.below(self.attempts.len())].clone(),
        }
    }
}

impl Load {
    /// Starts the threads of these instances. Each has its own store: a clone, or one with separate
    /// connections.
    ///
    /// # Panics
    ///
    /// Panics if it is called outside of a Tokio runtime.
    pub fn start<S: Store>(instances: impl IntoIterator<Item = S>, seed: u64) -> Self {
        let recorder = Recorder::default();
        let mut random = Random(seed);
        let shared = Arc::new(Shared {
            keys: std::array::from_fn(|_| Mutex::new(Used::fresh(&mut random))),
            answered: Counter::default(),
            failed: Counter::default(),
            stop: AtomicBool::new(false),
        });
        let mut threads = Vec::new();
        for store in instances {
            let store = Arc::new(recorder.instance(store));
            for _ in 0..THREADS {
                let (store, shared, runtime) =
                    (Arc::clone(&store), Arc::clone(&shared), Handle::current());
                let mut random = Random(random.next());
                threads.push(thread::spawn(move || {
                    while !shared.stop.load(Ordering::Relaxed) {
                        runtime.block_on(shared.call(&store, &mut random));
                    }
                }));
            }
        }
        Self { recorder, shared, threads }
    }

    /// The recorder, for reporting when the server is disturbed.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Waits for this many more answers.
    pub async fn answers(&self, calls: usize) {
        self.shared.answered.reaches(self.shared.answered.get() + calls).await;
    }

    /// Waits for this many more calls that fail or are abandoned.
    pub async fn failures(&self, calls: usize) {
        self.shared.failed.reaches(self.shared.failed.get() + calls).await;
    }

    /// Ends all threads, and returns what was recorded.
    ///
    /// # Panics
    ///
    /// Panics if a thread has.
    #[must_use]
    pub fn stop(self) -> History {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no thread panics");
        }
        self.recorder.history()
    }
}

impl Shared {
    async fn call<S: Store>(&self, store: &Recorded<S>, random: &mut Random) {
        let index = random.below(KEYS);
        let choice = random.below(20);
        let (key, attempt) = {
            let mut used = lock(&self.keys[index]);
            if used.calls_left == 0 || used.failures_left == 0 {
                *used = Used::fresh(random);
            }
            used.calls_left -= 1;
            let attempt = if choice < 6 { used.attempt(random) } else { used.known(random) };
            (used.key, attempt)
        };
        // Some callers go away right after asking.
        let limit = if random.below(CALLS_PER_CANCELLED) == 0 { Duration::ZERO } else { LIMIT };
        let ask = async {
            match choice {
                0..=6 => {
                    if let Claim::Claimed { .. } = store.claim(&attempt, LONG).await? {
                        self.with(index, key, |used| used.holder = Some(attempt));
                    }
                }
                7..=8 => _ = store.renew(&attempt, LONG).await?,
                9..=12 => {
                    let record = Bytes::copy_from_slice(&random.next().to_be_bytes());
                    let _ = store.complete(&attempt, record, LONG).await?;
                }
                13..=14 => store.release(&attempt).await?,
                15..=17 => _ = store.read(key).await?,
                _ => _ = store.forget(key, choice == 18).await?,
            }
            Ok::<_, StoreError>(())
        };
        if let Ok(Ok(())) = timeout(limit, ask).await {
            self.answered.add();
            return;
        }
        self.failed.add();
        self.with(index, key, |used| {
            used.failures_left = used.failures_left.saturating_sub(1);
        });
        tokio::time::sleep(PAUSE).await;
    }

    /// Records something about a key that is still in use.
    fn with(&self, index: usize, key: StoreKey, note: impl FnOnce(&mut Used)) {
        let mut used = lock(&self.keys[index]);
        if used.key == key {
            note(&mut used);
        }
    }
}

/// A small random number generator (SplitMix64): the same numbers for a seed on every machine.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).expect("64 bits are enough");
        usize::try_from(self.next() % limit).expect("it is below a `usize`")
    }

    fn bytes(&mut self) -> [u8; 16] {
        let [high, low] = [self.next(), self.next()].map(u128::from);
        (high << 64 | low).to_be_bytes()
    }
}
