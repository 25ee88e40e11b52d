//! [`Load`]: instances that ask a store at random.

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
/// How long it does not ask a server that has failed.
const PAUSE: Duration = Duration::from_millis(5);
/// The threads of each instance.
const THREADS: usize = 2;
/// How many keys are in use at a time.
const KEYS: usize = 3;
/// How many attempts at a key are remembered, to be repeated by anybody.
const ATTEMPTS: usize = 6;
/// After so many failed calls a key is left alone: each of them may still be done.
const FAILURES: usize = 6;

/// Threads that call random verbs on few keys. Which ones depends on the seed, and on how the
/// threads meet.
#[derive(Debug)]
pub struct Load {
    recorder: Recorder,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    keys: [Mutex<Key>; KEYS],
    answered: Counter,
    failed: Counter,
    stop: AtomicBool,
}

/// A key in use.
#[derive(Debug)]
struct Key {
    key: StoreKey,
    attempts: Vec<Attempt>,
    holder: Option<Attempt>,
    calls_left: usize,
    failures_left: usize,
}

impl Key {
    fn fresh(life: usize) -> Self {
        Self {
            key: StoreKey::from_bytes(*Token::random().as_bytes()),
            attempts: Vec::new(),
            holder: None,
            calls_left: life,
            failures_left: FAILURES,
        }
    }

    /// A new attempt, which is remembered.
    fn attempt(&mut self) -> Attempt {
        let attempt = stranger(self.key);
        if self.attempts.len() == ATTEMPTS {
            self.attempts.remove(0);
        }
        self.attempts.push(attempt.clone());
        attempt
    }

    /// The one that may hold the key, more often than not, or another that has asked for it.
    fn known(&mut self, random: &mut Random) -> Attempt {
        match &self.holder {
            Some(holder) if random.below(3) > 0 => holder.clone(),
            _ if self.attempts.is_empty() => self.attempt(),
            _ => self.attempts[random.below(self.attempts.len())].clone(),
        }
    }
}

/// Somebody's attempt, with a fingerprint of its own.
fn stranger(key: StoreKey) -> Attempt {
    let token = Token::random();
    Attempt::new(key, Fingerprint::from_bytes(*token.as_bytes()), token)
}

impl Load {
    /// Starts the threads of these instances. Each has a store of its own: a clone, or one with its
    /// own connections.
    ///
    /// # Panics
    ///
    /// Panics if it is called outside of a Tokio runtime.
    pub fn start<S: Store>(instances: impl IntoIterator<Item = S>, seed: u64) -> Self {
        let recorder = Recorder::default();
        let mut random = Random(seed);
        let shared = Arc::new(Shared {
            keys: std::array::from_fn(|_| Mutex::new(Key::fresh(random.life()))),
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

    /// Who records it, to say when the server is disturbed.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Waits for so many more answers.
    pub async fn answers(&self, calls: usize) {
        self.shared.answered.reaches(self.shared.answered.get() + calls).await;
    }

    /// Waits for so many more calls that fail, or are given up.
    pub async fn failures(&self, calls: usize) {
        self.shared.failed.reaches(self.shared.failed.get() + calls).await;
    }

    /// Ends all threads, and gives what was recorded.
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
            let mut key = lock(&self.keys[index]);
            if key.calls_left == 0 || key.failures_left == 0 {
                *key = Key::fresh(random.life());
            }
            key.calls_left -= 1;
            let attempt = match choice {
                0..=5 => key.attempt(),
                6..=15 => key.known(random),
                _ => stranger(key.key),
            };
            (key.key, attempt)
        };
        let ask = async {
            match choice {
                0..=6 => {
                    if let Claim::Claimed { .. } = store.claim(&attempt, LONG).await? {
                        self.with(index, key, |key| key.holder = Some(attempt));
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
        if let Ok(Ok(())) = timeout(LIMIT, ask).await {
            self.answered.add();
            return;
        }
        self.failed.add();
        self.with(index, key, |key| key.failures_left = key.failures_left.saturating_sub(1));
        tokio::time::sleep(PAUSE).await;
    }

    /// Notes something about a key that is still in use.
    fn with(&self, index: usize, key: StoreKey, note: impl FnOnce(&mut Key)) {
        let mut used = lock(&self.keys[index]);
        if used.key == key {
            note(&mut used);
        }
    }
}

/// A small random generator (SplitMix64): the same numbers for a seed on every machine.
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

    /// How many calls a key gets.
    fn life(&mut self) -> usize {
        20 + self.below(100)
    }
}
