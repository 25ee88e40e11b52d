//! Histories: what the instances of a service asked a store and what it answered, checked like
//! Jepsen does.
//!
//! A [`Recorder`] hands out [`Recorded`] stores, one per instance, and records all of their calls.
//! [`History::check`] then decides for each key whether its calls, applied one after the other at
//! some moment between their start and their end, are a path through the table of states in
//! [`Store`](idempotent_runtime::Store)'s docs. Time does not matter: leases and ttls must be
//! longer than the test.
//!
//! [`Load`] makes random calls from many threads while the test breaks the server.
//!
//! It is here rather than in the runtime's `testing` so that the tests of both crates can use it
//! and nobody depends on its form.

mod check;
mod load;
mod model;
mod recorded;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use idempotent_runtime::{Attempt, Fingerprint, StoreKey, Token};

use self::check::{Repeats, check};
pub use self::{
    check::{Summary, Violation},
    load::Load,
    recorded::Recorded,
};
use crate::lock;

/// Who is asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Asker {
    /// The attempt's token.
    pub token: Token,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
}

impl From<&Attempt> for Asker {
    fn from(attempt: &Attempt) -> Self {
        Self { token: attempt.token, fingerprint: attempt.fingerprint }
    }
}

/// What a store was asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the verbs of `Store`")]
pub enum Asked {
    Claim(Asker),
    Renew(Asker),
    Complete(Asker, Bytes),
    Release(Asker),
    Wait,
    Read,
    Forget { even_if_running: bool },
}

/// What it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The key is the asker's.
    Claimed,
    /// Someone is running, with this fingerprint if it is known yet.
    Running(Option<Fingerprint>),
    /// There is a record.
    Stored(Fingerprint, Bytes),
    /// The key is free.
    Absent,
    /// To `renew` and `complete`.
    Held,
    /// To `renew` and `complete`.
    Lost,
    /// To `forget`.
    Freed,
    /// To `forget`.
    StillRunning,
    /// The answer to `release` and `wait`, which say no more.
    Done,
    /// The store says that the call reached no server, so nothing was done.
    NotSent,
}

/// One call of a method.
#[derive(Debug, Clone)]
pub struct Call {
    /// Which instance of the service made it.
    pub instance: usize,
    /// The key that it is about.
    pub key: StoreKey,
    /// The method and its arguments.
    pub asked: Asked,
    /// When it began, in the single order of all starts and ends.
    pub begin: u64,
    /// When it ended or was dropped; `None` if it is still in progress.
    pub end: Option<u64>,
    /// The answer; `None` if it is unknown what was done, because of an error or because nobody
    /// waited for the end.
    pub told: Option<Told>,
}

/// Records the calls of all instances. A clone is another handle to it.
#[derive(Debug, Clone, Default)]
pub struct Recorder(Arc<Log>);

#[derive(Debug, Default)]
struct Log {
    now: AtomicU64,
    instances: AtomicUsize,
    calls: Mutex<Vec<Call>>,
    disturbances: Mutex<Vec<Disturbance>>,
}

#[derive(Debug, Clone, Copy)]
struct Disturbance {
    begin: u64,
    end: Option<u64>,
}

impl Recorder {
    /// The store of another instance.
    pub fn instance<S>(&self, store: S) -> Recorded<S> {
        let instance = self.0.instances.fetch_add(1, Ordering::Relaxed);
        Recorded { store, instance, recorder: self.clone() }
    }

    /// From now on the path to the server may break, until the guard is dropped.
    ///
    /// A store may then resend a call that was not answered, as its methods allow, and the call's
    /// own answer only reflects the last time.
    pub fn disturb(&self) -> Disturbed {
        let mut disturbances = lock(&self.0.disturbances);
        disturbances.push(Disturbance { begin: self.tick(), end: None });
        Disturbed { recorder: self.clone(), index: disturbances.len() - 1 }
    }

    /// What was recorded so far.
    #[must_use]
    pub fn history(&self) -> History {
        let calls = lock(&self.0.calls).clone();
        History { calls, disturbances: lock(&self.0.disturbances).clone() }
    }

    fn tick(&self) -> u64 {
        self.0.now.fetch_add(1, Ordering::SeqCst)
    }

    /// Records the start of a call.
    fn begin(&self, instance: usize, key: StoreKey, asked: Asked) -> Begun<'_> {
        let mut calls = lock(&self.0.calls);
        let begin = self.tick();
        calls.push(Call { instance, key, asked, begin, end: None, told: None });
        Begun { recorder: self, index: calls.len() - 1, told: None }
    }
}

/// Ends a disturbance when dropped.
#[derive(Debug)]
#[must_use = "the disturbance ends when this is dropped"]
pub struct Disturbed {
    recorder: Recorder,
    index: usize,
}

impl Drop for Disturbed {
    fn drop(&mut self) {
        let now = self.recorder.tick();
        lock(&self.recorder.0.disturbances)[self.index].end = Some(now);
    }
}

/// A call in progress. It ends when this is dropped, with or without an answer.
struct Begun<'a> {
    recorder: &'a Recorder,
    index: usize,
    told: Option<Told>,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        let mut calls = lock(&self.recorder.0.calls);
        let end = Some(self.recorder.tick());
        let call = &mut calls[self.index];
        (call.end, call.told) = (end, self.told.take());
    }
}

/// What was asked and answered, in the order of the starts.
#[derive(Debug, Clone, Default)]
pub struct History {
    calls: Vec<Call>,
    disturbances: Vec<Disturbance>,
}

impl History {
    /// The calls of all keys.
    #[must_use]
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// How often the path to the server broke.
    #[must_use]
    pub fn disturbances(&self) -> usize {
        self.disturbances.len()
    }

    /// Checks every key.
    ///
    /// # Errors
    ///
    /// Returns an error if the calls of a key are not linearizable.
    pub fn check(&self) -> Result<Summary, Box<Violation>> {
        let mut keys: HashMap<StoreKey, Vec<&Call>> = HashMap::new();
        for call in &self.calls {
            keys.entry(call.key).or_default().push(call);
        }
        let mut summary = Summary { keys: keys.len(), ..Summary::default() };
        for calls in keys.values() {
            summary.count(calls);
            if check(calls, |_| Repeats::Never).is_ok() {
                continue;
            }
            let if_disturbed = |repeats| {
                move |call: &Call| {
                    if self.is_disturbed(call) { repeats } else { Repeats::Never }
                }
            };
            if check(calls, if_disturbed(Repeats::UnderWay)).is_ok() {
                summary.repeated += 1;
            } else {
                check(calls, if_disturbed(Repeats::Later))?;
                summary.late += 1;
            }
        }
        Ok(summary)
    }

    /// Checks every key, and returns the figures.
    ///
    /// # Panics
    ///
    /// Panics if the calls of a key are not linearizable.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "it asserts")]
    pub fn assert_linearizable(&self) -> Summary {
        self.check().unwrap_or_else(|violation| panic!("{violation}"))
    }

    /// Whether it may have been sent more than once.
    fn is_disturbed(&self, call: &Call) -> bool {
        self.disturbances.iter().any(|disturbance| {
            let ends_before = disturbance.end.is_some_and(|end| end < call.begin);
            let begins_after = call.end.is_some_and(|end| end < disturbance.begin);
            !ends_before && !begins_after
        })
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { instance, asked, begin, end, told, .. } = self;
        let end = end.map_or_else(|| "…".to_owned(), |end| end.to_string());
        write!(f, "{begin}–{end} instance {instance}: {asked:?} -> ")?;
        match told {
            Some(told) => write!(f, "{told:?}"),
            None => f.write_str("unknown"),
        }
    }
}
