//! The sealing key changes under load, in two roll-outs on three instances, and no request fails.

use std::{
    collections::HashMap,
    mem::replace,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{Router, extract::State, routing::post as route};
use http::StatusCode;
use idempotent_axum::{Idempotency, RedisStore, Sealing, idempotent};
use idempotent_test_support::{Counter, fresh_key, post};
use test_servers::Redis;
use tokio::task::JoinSet;

use super::{NEW, OLD, dump::Dump, new, old};

const CLIENTS: usize = 8;
/// How many answers come between two steps.
const STEP: usize = 120;

#[idempotent(wait = "60s")]
async fn order(State(runs): State<Counter>) -> (StatusCode, String) {
    let run = runs.add();
    tokio::task::yield_now().await;
    (StatusCode::CREATED, format!("order {run}"))
}

struct Instance {
    router: Router,
    idempotency: Idempotency,
}

/// Three instances, and what their clients have seen.
struct Fleet {
    url: String,
    instances: [Mutex<Instance>; 3],
    runs: Counter,
    answered: Counter,
    refused: Counter,
    /// The response to each key.
    responses: Mutex<HashMap<String, String>>,
    is_over: AtomicBool,
}

async fn instance(url: &str, runs: &Counter, sealing: Option<Sealing>) -> Instance {
    let store = RedisStore::connect(url).await.unwrap();
    let idempotency = Idempotency::new(store);
    let idempotency = match sealing {
        Some(sealing) => idempotency.seal(sealing),
        None => idempotency,
    };
    let router = Router::new().route("/orders", route(order)).layer(idempotency.clone());
    Instance { router: router.with_state(runs.clone()), idempotency }
}

impl Fleet {
    async fn start(redis: &Redis, sealing: Option<Sealing>) -> Arc<Self> {
        let (url, runs) = (redis.url(), Counter::default());
        let mut instances = Vec::new();
        for _ in 0..3 {
            instances.push(Mutex::new(instance(&url, &runs, sealing.clone()).await));
        }
        Arc::new(Self {
            url,
            instances: instances.try_into().ok().expect("three"),
            runs,
            answered: Counter::default(),
            refused: Counter::default(),
            responses: Mutex::default(),
            is_over: AtomicBool::new(false),
        })
    }

    /// Sends a request to an instance. If it answers with a response, that must be the key's.
    async fn send(&self, to: usize, key: &str) {
        let router = self.instances[to % 3].lock().unwrap().router.clone();
        let answer = post("/orders").key(key).send(&router).await;
        if answer.status == StatusCode::CREATED {
            let text = answer.text().to_owned();
            let mut responses = self.responses.lock().unwrap();
            assert_eq!(*responses.entry(key.to_owned()).or_insert_with(|| text.clone()), text);
        } else {
            assert_eq!(answer.problem(), (503, "store_unavailable".to_owned()));
            assert!(answer.header("retry-after").is_some());
            self.refused.add();
        }
        self.answered.add();
    }

    /// Sends requests, each to all instances, and repeats earlier ones.
    async fn load(self: Arc<Self>, client: usize) {
        let mut keys = Vec::new();
        for turn in client.. {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            keys.push(fresh_key());
            for key in [keys.len() - 1, keys.len() / 2, 0].map(|at| &keys[at]) {
                for instance in turn..turn + 2 {
                    self.send(instance, key).await;
                }
            }
        }
    }

    /// Replaces one instance after the other.
    async fn roll_out(&self, sealing: Sealing) {
        for place in &self.instances {
            let next = instance(&self.url, &self.runs, Some(sealing.clone())).await;
            let old = replace(&mut *place.lock().unwrap(), next);
            old.idempotency.drain().await;
            self.answered.reaches(self.answered.get() + STEP).await;
        }
    }

    /// Rolls these out, one after the other, under load; returns how many requests were refused.
    async fn roll_over(self: &Arc<Self>, steps: impl IntoIterator<Item = Sealing>) -> usize {
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            clients.spawn(Arc::clone(self).load(client));
        }
        self.answered.reaches(STEP).await;
        for sealing in steps {
            self.roll_out(sealing).await;
        }
        self.is_over.store(true, Ordering::Relaxed);
        clients.join_all().await;
        let keys = self.responses.lock().unwrap().len();
        assert_eq!(self.runs.get(), keys, "no key has run twice");
        self.refused.get()
    }

    /// Asserts that every instance has every response.
    async fn assert_complete(&self) {
        let keys: Vec<_> = self.responses.lock().unwrap().keys().cloned().collect();
        let before = self.runs.get();
        for key in &keys {
            for instance in 0..3 {
                self.send(instance, key).await;
            }
        }
        assert_eq!((self.runs.get(), self.refused.get()), (before, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_changes_in_two_roll_outs_and_no_request_fails() {
    let redis = Redis::start();
    let fleet = Fleet::start(&redis, Some(old())).await;
    let opens_next = old().and_open("2026-11", *NEW);
    let seals_with_it = new().and_open("2026-10", *OLD);
    assert_eq!(fleet.roll_over([opens_next, seals_with_it]).await, 0);
    fleet.assert_complete().await;
    let dump = Dump::of_redis(&redis).await;
    let ids = dump.windows(7);
    assert!(ids.contains(&b"2026-10"[..]) && ids.contains(&b"2026-11"[..]), "both have sealed");
}

/// What the first of the two roll-outs is for.
#[tokio::test(flavor = "multi_thread")]
async fn in_one_roll_out_requests_are_refused_and_nothing_runs_twice() {
    let redis = Redis::start();
    let fleet = Fleet::start(&redis, Some(old())).await;
    assert_ne!(fleet.roll_over([new().and_open("2026-10", *OLD)]).await, 0);
}

/// An instance that does not seal yet refuses what another one has sealed.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_begins_to_seal_and_nothing_runs_twice() {
    let redis = Redis::start();
    let fleet = Fleet::start(&redis, None).await;
    fleet.roll_over([new().and_open_unsealed()]).await;
    let refused = fleet.refused.get();
    let first: Vec<_> = fleet.responses.lock().unwrap().keys().cloned().collect();
    for key in &first {
        fleet.send(0, key).await;
    }
    assert_eq!(fleet.refused.get(), refused, "once all seal, all is replayed");
    assert_eq!(fleet.runs.get(), first.len());
}
