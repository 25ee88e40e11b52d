//! [`History`]: every run of the handler and every answer of the store, and from both why a key ran
//! twice.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use idempotent_axum::{
    Attempt, Claim, Forgotten, Hold, KeyState, Store, StoreError, StoreKey, Token,
};

use crate::lock;

mod proof;

pub(crate) use self::proof::prove;

tokio::task_local! {
    /// The key of the request that is being answered, for the store to know it by.
    pub(crate) static ASKED: Arc<str>;
}

/// A span of time.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
}

/// Why a key ran again within its ttl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// The previous run was dropped before its end.
    Killed,
    /// The store was away for longer than the previous run's lease.
    LeaseLost,
    /// The server had acknowledged the claim or the response, and lost it.
    WriteLost,
    /// None of these: what it looks like.
    Unexplained(&'static str),
}

const UNCLAIMED: Cause = Cause::Unexplained("a run had no claim");
const BESIDE: Cause = Cause::Unexplained("two runs under one claim");
const FREED: Cause = Cause::Unexplained("the key was freed though its run had ended");
const FORGOTTEN: Cause = Cause::Unexplained("the store forgot what it had acknowledged");
const LAPSED: Cause = Cause::Unexplained("the lease lapsed, and no outage was as long");

#[derive(Default)]
pub(crate) struct History {
    runs: Mutex<Vec<Run>>,
    store: Mutex<Calls>,
}

struct Run {
    key: Arc<str>,
    begin: Instant,
    end: Option<Instant>,
    killed: bool,
}

#[derive(Default)]
struct Calls {
    names: HashMap<Arc<str>, StoreKey>,
    answers: HashMap<StoreKey, Vec<Acknowledged>>,
}

/// A change that the store has acknowledged.
#[derive(Clone, Copy)]
struct Acknowledged {
    token: Token,
    change: Change,
    span: Span,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Claimed or renewed.
    Held {
        until: Duration,
    },
    Stored {
        until: Duration,
    },
    Released,
}

impl Change {
    /// How long the key is held from then on, if it is.
    fn holds_for(self) -> Option<Duration> {
        match self {
            Self::Held { until } | Self::Stored { until } => Some(until),
            Self::Released => None,
        }
    }
}

impl History {
    /// Begins a run. It was killed if the returned value is dropped before its end.
    pub(crate) fn run(self: &Arc<Self>, key: &str) -> Running {
        let mut runs = lock(&self.runs);
        runs.push(Run { key: key.into(), begin: Instant::now(), end: None, killed: false });
        Running { history: Arc::clone(self), index: runs.len() - 1 }
    }

    /// The keys that have run, each once.
    pub(crate) fn keys(&self) -> Vec<Arc<str>> {
        let mut keys: Vec<_> = lock(&self.runs).iter().map(|run| Arc::clone(&run.key)).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// The keys whose response the store had acknowledged before `time`.
    pub(crate) fn stored_before(&self, time: Instant) -> HashSet<Arc<str>> {
        let store = lock(&self.store);
        let is_stored = |answer: &Acknowledged| {
            matches!(answer.change, Change::Stored { .. }) && answer.span.end < time
        };
        let stored = store.names.iter().filter(|(_, key)| {
            store.answers.get(*key).is_some_and(|answers| answers.iter().any(is_stored))
        });
        stored.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// The cause of each second run. `loses` says whether the server may lose what it has
    /// acknowledged.
    pub(crate) fn second_runs(&self, outages: &[Span], lease: Duration, loses: bool) -> Vec<Cause> {
        let (runs, store) = (lock(&self.runs), lock(&self.store));
        let mut by_key: HashMap<&str, Vec<&Run>> = HashMap::new();
        for run in runs.iter() {
            by_key.entry(&run.key).or_default().push(run);
        }
        let again = by_key.values().flat_map(|runs| runs.windows(2));
        again
            .map(|pair| {
                let key = store.names.get(&pair[1].key);
                let answers = key.and_then(|key| store.answers.get(key));
                let answers = answers.map_or(&[][..], Vec::as_slice);
                cause(pair[0], pair[1], answers, outages, lease, loses)
            })
            .collect()
    }

    fn acknowledged(&self, attempt: &Attempt, change: Change, begin: Instant) {
        let span = Span { begin, end: Instant::now() };
        let answer = Acknowledged { token: attempt.token, change, span };
        lock(&self.store).answers.entry(attempt.key).or_default().push(answer);
    }
}

fn cause(
    first: &Run,
    second: &Run,
    answers: &[Acknowledged],
    outages: &[Span],
    lease: Duration,
    loses: bool,
) -> Cause {
    if first.killed {
        return Cause::Killed;
    }
    // The claims that the two runs are based on, and the last change of the first one's.
    let until = |time| answers.iter().filter(move |answer| answer.span.end <= time);
    let is_claim = |answer: &&Acknowledged| matches!(answer.change, Change::Held { .. });
    let claim_at = |time| until(time).filter(is_claim).max_by_key(|answer| answer.span.end);
    let (Some(held), Some(claim)) = (claim_at(first.begin), claim_at(second.begin)) else {
        return UNCLAIMED;
    };
    if claim.token == held.token {
        return BESIDE;
    }
    let own = || until(second.begin).filter(|answer| answer.token == held.token);
    let in_force = own().filter_map(|answer| Some((answer, answer.change.holds_for()?)));
    let Some((last, holds)) = in_force.max_by_key(|(answer, _)| answer.span.end) else {
        return UNCLAIMED;
    };
    let lapses = last.span.begin + holds;
    let is_release = |answer: &&Acknowledged| answer.change == Change::Released;
    if own().filter(is_release).any(|release| release.span.begin < lapses) {
        return FREED;
    }
    let is_lease = matches!(last.change, Change::Held { .. });
    let was_in_force = claim.span.end < lapses;
    let outlasted = |outage: &Span| {
        let meets = outage.begin < lapses && outage.end > last.span.end;
        meets && outage.end.saturating_duration_since(last.span.begin) >= lease
    };
    if was_in_force {
        if loses { Cause::WriteLost } else { FORGOTTEN }
    } else if is_lease && outages.iter().any(outlasted) {
        Cause::LeaseLost
    } else {
        LAPSED
    }
}

/// A run that has begun.
pub(crate) struct Running {
    history: Arc<History>,
    index: usize,
}

impl Running {
    /// How many runs began before it.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Ends the run.
    pub(crate) fn end(self) -> usize {
        lock(&self.history.runs)[self.index].end = Some(Instant::now());
        self.index
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let run = &mut lock(&self.history.runs)[self.index];
        run.killed = run.end.is_none();
    }
}

/// A store that records what it has acknowledged.
pub(crate) struct Observed<S> {
    store: S,
    history: Arc<History>,
}

impl<S> Observed<S> {
    pub(crate) fn new(store: S, history: &Arc<History>) -> Self {
        Self { store, history: Arc::clone(history) }
    }
}

#[deny(clippy::missing_trait_methods, reason = "a default would hide the store's own")]
impl<S: Store> Store for Observed<S> {
    async fn claim(&self, attempt: &Attempt, lease: Duration) -> Result<Claim, StoreError> {
        // A claim that is repeated in the background is for a key that is known already.
        let _ = ASKED.try_with(|key| {
            lock(&self.history.store).names.insert(Arc::clone(key), attempt.key);
        });
        let begin = Instant::now();
        let claim = self.store.claim(attempt, lease).await?;
        if matches!(claim, Claim::Claimed { .. }) {
            self.history.acknowledged(attempt, Change::Held { until: lease }, begin);
        }
        Ok(claim)
    }

    async fn renew(&self, attempt: &Attempt, lease: Duration) -> Result<Hold, StoreError> {
        let begin = Instant::now();
        let hold = self.store.renew(attempt, lease).await?;
        if hold == Hold::Held {
            self.history.acknowledged(attempt, Change::Held { until: lease }, begin);
        }
        Ok(hold)
    }

    async fn complete(
        &self,
        attempt: &Attempt,
        record: Bytes,
        ttl: Duration,
    ) -> Result<Hold, StoreError> {
        let begin = Instant::now();
        let hold = self.store.complete(attempt, record, ttl).await?;
        if hold == Hold::Held {
            self.history.acknowledged(attempt, Change::Stored { until: ttl }, begin);
        }
        Ok(hold)
    }

    async fn release(&self, attempt: &Attempt) -> Result<(), StoreError> {
        let begin = Instant::now();
        self.store.release(attempt).await?;
        self.history.acknowledged(attempt, Change::Released, begin);
        Ok(())
    }

    async fn wait(&self, key: StoreKey, at_most: Duration) {
        self.store.wait(key, at_most).await;
    }

    async fn read(&self, key: StoreKey) -> Result<KeyState, StoreError> {
        self.store.read(key).await
    }

    async fn forget(&self, key: StoreKey, even_if_running: bool) -> Result<Forgotten, StoreError> {
        self.store.forget(key, even_if_running).await
    }
}
