//! The metrics: one listener that counts events for the recorder that the process has installed.
//!
//! No label has a value that a client can choose: an operation is a template or a `scope`, and
//! beyond [`MOST_OPERATIONS`] it is `other`. Without a recorder nothing is allocated once an
//! operation is known.

use std::{
    collections::BTreeMap,
    sync::{Arc, Once, PoisonError, RwLock},
};

use metrics::{Key, Label, Level, Metadata, SharedString, Unit, with_recorder};

use super::{
    event::{Decision, Event, StoreCall},
    gauge::Gauge,
};
use crate::store::StoreHandle;

const REQUESTS: &str = "idempotency_requests_total";
const RUN: &str = "idempotency_run_seconds";
const WAIT: &str = "idempotency_wait_seconds";
const STORE: &str = "idempotency_store_seconds";
const RUNS: &str = "idempotency_runs_in_flight";
const WAITING: &str = "idempotency_waiting";
const BACKGROUND: &str = "idempotency_background_tasks";
const LOST: &str = "idempotency_claims_lost_total";
const GIVEN_UP: &str = "idempotency_given_up_total";
#[cfg(feature = "near-cache")]
const NEAR: &str = "idempotency_near_replays_total";
#[cfg(feature = "memory")]
const BYTES: &str = "idempotency_memory_bytes";
#[cfg(feature = "memory")]
const EVICTED: &str = "idempotency_evicted_total";

/// How many operations have their own label.
const MOST_OPERATIONS: usize = 1000;

static METADATA: Metadata<'static> = Metadata::new(crate::TARGET, Level::INFO, Some(crate::TARGET));

/// A listener that counts events for the metrics.
pub(super) fn listener(store: &StoreHandle) -> impl Fn(&Event<'_>) + Send + Sync + use<> {
    #[cfg(feature = "memory")]
    if let Some(memory) = store.memory() {
        memory::watch(memory);
    }
    let is_memory = store.is_memory();
    // The recorder may already be installed, so that a service shows its metrics before the first
    // request, or be installed later.
    describe(is_memory);
    let described = Once::new();
    move |event| {
        described.call_once(|| describe(is_memory));
        count(event);
        #[cfg(feature = "memory")]
        if is_memory {
            memory::read();
        }
    }
}

/// Changes the number of things in progress.
pub(super) fn change(gauge: Gauge, by: f64) {
    static KEYS: [Key; 3] = [
        Key::from_static_name(RUNS),
        Key::from_static_name(WAITING),
        Key::from_static_name(BACKGROUND),
    ];
    let key = match gauge {
        Gauge::Runs => &KEYS[0],
        Gauge::Waiting => &KEYS[1],
        Gauge::Background => &KEYS[2],
    };
    with_recorder(|recorder| recorder.register_gauge(key, &METADATA).increment(by));
}

fn count(event: &Event<'_>) {
    static RUN_KEY: Key = Key::from_static_name(RUN);
    static WAIT_KEY: Key = Key::from_static_name(WAIT);

    if let Some(StoreCall { verb, result, time }) = event.store_call() {
        let key = STORE_KEYS.get(verb.as_str(), result.as_str());
        record(&key, time.as_secs_f64());
    }
    let Some(decision) = event.decision() else { return };
    match decision {
        Decision::ClaimLost => increment(&Key::from_static_name(LOST), 1),
        Decision::GivenUp => increment(&Key::from_static_name(GIVEN_UP), 1),
        decision if decision.is_answer() => {
            #[cfg(feature = "near-cache")]
            if decision == Decision::Replayed(super::event::Replayed::Near) {
                increment(&Key::from_static_name(NEAR), 1);
            }
            let key = REQUEST_KEYS.get(event.operation(), decision.as_str());
            increment(&key, 1);
            if let Some(time) = event.run_time() {
                record(&RUN_KEY, time.as_secs_f64());
            }
            if let Some(time) = event.wait_time() {
                record(&WAIT_KEY, time.as_secs_f64());
            }
        }
        _ => {}
    }
}

fn increment(key: &Key, by: u64) {
    with_recorder(|recorder| recorder.register_counter(key, &METADATA).increment(by));
}

fn record(key: &Key, value: f64) {
    with_recorder(|recorder| recorder.register_histogram(key, &METADATA).record(value));
}

static REQUEST_KEYS: Keys = Keys::new(REQUESTS, ["operation", "outcome"]);
static STORE_KEYS: Keys = Keys::new(STORE, ["verb", "result"]);

type ByLabels = BTreeMap<Box<str>, BTreeMap<&'static str, Arc<Key>>>;

/// The keys of one metric by the values of its two labels, each created once: a recorder is
/// addressed by key, and creating one allocates.
struct Keys {
    name: &'static str,
    labels: [&'static str; 2],
    by_labels: RwLock<ByLabels>,
}

impl Keys {
    const fn new(name: &'static str, labels: [&'static str; 2]) -> Self {
        Self { name, labels, by_labels: RwLock::new(BTreeMap::new()) }
    }

    fn get(&self, first: &str, second: &'static str) -> Arc<Key> {
        let known = self.by_labels.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known.get(first).and_then(|keys| keys.get(second)) {
            return Arc::clone(key);
        }
        let is_full = known.len() >= MOST_OPERATIONS && !known.contains_key(first);
        drop(known);
        let first = if is_full { "other" } else { first };
        let mut known = self.by_labels.write().unwrap_or_else(PoisonError::into_inner);
        let keys = known.entry(first.into()).or_default();
        let key = keys.entry(second).or_insert_with(|| {
            let [one, other] = self.labels;
            let first = SharedString::from_owned(first.to_owned());
            let labels = vec![Label::new(one, first), Label::from_static_parts(other, second)];
            Arc::new(Key::from_parts(self.name, labels))
        });
        Arc::clone(key)
    }
}

/// Describes each metric, and starts those without labels at 0, so that dashboards and alerts can
/// tell zero from a missing metric.
fn describe(is_memory: bool) {
    with_recorder(|recorder| {
        let counters = [
            (REQUESTS, "Requests to idempotent handlers, by operation and outcome"),
            (LOST, "Runs that lost their claim: a retry may have run alongside them"),
            (GIVEN_UP, "Responses that could not be stored: a retry of their request runs again"),
        ];
        for (name, text) in counters {
            recorder.describe_counter(name.into(), Some(Unit::Count), text.into());
        }
        let histograms = [
            (RUN, "How long runs took, from the claim to the end of the response"),
            (WAIT, "How long duplicates waited for the first request with their key"),
            (STORE, "How long calls to the shared store took, by verb and result"),
        ];
        for (name, text) in histograms {
            recorder.describe_histogram(name.into(), Some(Unit::Seconds), text.into());
        }
        let gauges = [
            (RUNS, "Runs in progress, including those that have outlived their callers"),
            (WAITING, "Duplicates waiting for the first request with their key"),
            (BACKGROUND, "Responses being stored and keys being released after the answer"),
        ];
        for (name, text) in gauges {
            recorder.describe_gauge(name.into(), Some(Unit::Count), text.into());
            recorder.register_gauge(&Key::from_static_name(name), &METADATA).increment(0.0);
        }
        for name in [LOST, GIVEN_UP] {
            recorder.register_counter(&Key::from_static_name(name), &METADATA).increment(0);
        }
        #[cfg(feature = "near-cache")]
        if !is_memory {
            let text = "Responses replayed from the near cache, without the store";
            recorder.describe_counter(NEAR.into(), Some(Unit::Count), text.into());
            recorder.register_counter(&Key::from_static_name(NEAR), &METADATA).increment(0);
        }
        #[cfg(feature = "memory")]
        if is_memory {
            let text = "Bytes that the responses in the memory of this process take up";
            recorder.describe_gauge(BYTES.into(), Some(Unit::Bytes), text.into());
            let text = "Responses evicted from the memory of this process before their ttl";
            recorder.describe_counter(EVICTED.into(), Some(Unit::Count), text.into());
            memory::read();
        }
    });
    #[cfg(not(any(feature = "memory", feature = "near-cache")))]
    let _ = is_memory;
}

/// What the memory stores count themselves.
#[cfg(feature = "memory")]
mod memory {
    use std::sync::{Mutex, PoisonError};

    use metrics::{Key, with_recorder};

    use super::{BYTES, EVICTED, METADATA};
    use crate::store::memory::{MemoryStore, WeakMemoryStore};

    /// All stores that are alive.
    static STORES: Mutex<Vec<WeakMemoryStore>> = Mutex::new(Vec::new());

    pub(super) fn watch(store: &MemoryStore) {
        let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
        stores.retain(|other| other.upgrade().is_some());
        if !stores.iter().any(|other| other.is(store)) {
            stores.push(store.downgrade());
        }
    }

    pub(super) fn read() {
        static BYTES_KEY: Key = Key::from_static_name(BYTES);
        static EVICTED_KEY: Key = Key::from_static_name(EVICTED);

        let stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
        let stores = stores.iter().filter_map(WeakMemoryStore::upgrade);
        let (bytes, evicted) = stores.fold((0, 0), |(bytes, evicted), store| {
            (bytes + store.stored_bytes(), evicted + store.evicted())
        });
        with_recorder(|recorder| {
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
            recorder.register_gauge(&BYTES_KEY, &METADATA).set(bytes as f64);
            recorder.register_counter(&EVICTED_KEY, &METADATA).absolute(evicted);
        });
    }
}
