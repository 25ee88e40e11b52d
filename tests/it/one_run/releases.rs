//! Instances of this release and of the next one, whose records have another version, share a
//! store: neither runs again what the other has stored or is running.
#![cfg(all(feature = "redis", feature = "postgres"))]

use std::time::Duration;

use axum::{Router, extract::State, routing::post};
use bytes::Bytes;
use http::{StatusCode, header};
use idempotent_axum::{
    Attempt, Claim, Forgotten, Hold, Idempotency, KeyState, PostgresStore, RedisStore, Store,
    StoreError, StoreKey, idempotent,
};
use idempotent_test_support::{Answer, Counter, Gate, Probe, Server, fresh_key};
use test_servers::{Postgres, Redis};

/// The offsets in a record of its version, and of the checksum of everything else.
const VERSION: usize = 2;
const CHECKSUM: std::ops::Range<usize> = 5..9;

const THIS: u8 = 2;
const NEXT: u8 = 3;

/// A store as the next release uses it: it writes records of its own version, and also reads those
/// of this one.
struct OfNextRelease<S>(S);

impl<S: Store> Store for OfNextRelease<S> {
    async fn claim(&self, attempt: &Attempt, lease: Duration) -> Result<Claim, StoreError> {
        Ok(match self.0.claim(attempt, lease).await? {
            Claim::Stored { fingerprint, record, expires_in } if record[VERSION] == NEXT => {
                Claim::Stored { fingerprint, record: with_version(THIS, &record), expires_in }
            }
            claim => claim,
        })
    }

    async fn renew(&self, attempt: &Attempt, lease: Duration) -> Result<Hold, StoreError> {
        self.0.renew(attempt, lease).await
    }

    async fn complete(
        &self,
        attempt: &Attempt,
        record: Bytes,
        ttl: Duration,
    ) -> Result<Hold, StoreError> {
        assert_eq!(record[VERSION], THIS, "this release has another version by now");
        self.0.complete(attempt, with_version(NEXT, &record), ttl).await
    }

    async fn release(&self, attempt: &Attempt) -> Result<(), StoreError> {
        self.0.release(attempt).await
    }

    async fn wait(&self, key: StoreKey, at_most: Duration) {
        self.0.wait(key, at_most).await;
    }

    async fn read(&self, key: StoreKey) -> Result<KeyState, StoreError> {
        self.0.read(key).await
    }

    async fn forget(&self, key: StoreKey, even_if_running: bool) -> Result<Forgotten, StoreError> {
        self.0.forget(key, even_if_running).await
    }
}

/// The same record in another version, with a valid checksum.
fn with_version(version: u8, record: &[u8]) -> Bytes {
    let mut record = record.to_vec();
    record[VERSION] = version;
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&record[..CHECKSUM.start]);
    checksum.update(&record[CHECKSUM.end..]);
    record[CHECKSUM].copy_from_slice(&checksum.finalize().to_le_bytes());
    record.into()
}

#[idempotent(wait = "60s")]
async fn order(State(gate): State<Gate>) -> (StatusCode, String) {
    (StatusCode::CREATED, format!("order {}", gate.pass().await + 1))
}

/// An instance of each release, on one store.
struct Fleet {
    this: Server,
    next: Server,
    /// Of both instances' handlers.
    gate: Gate,
    /// How often the instances have begun to wait for each other's runs.
    waits_of_this: Counter,
    waits_of_next: Counter,
}

impl Fleet {
    /// On two connections to the same server.
    async fn start<S: Store + Clone>([this, next]: [S; 2]) -> Self {
        let gate = Gate::default();
        let (this, next) = (Probe::on(this), Probe::on(OfNextRelease(next)));
        let (waits_of_this, waits_of_next) = (this.wait.begun.clone(), next.wait.begun.clone());
        let (this, next) = (serve(&gate, this).await, serve(&gate, next).await);
        Self { this, next, gate, waits_of_this, waits_of_next }
    }

    fn runs(&self) -> usize {
        self.gate.arrived.get()
    }
}

async fn serve(gate: &Gate, store: impl Store) -> Server {
    let idempotency = Idempotency::new(store).store_timeout(Duration::from_secs(10));
    let app = Router::new().route("/orders", post(order)).layer(idempotency);
    Server::start(app.with_state(gate.clone())).await
}

async fn send(instance: &Server, key: &str) -> Answer {
    instance.post("/orders", key, "two apples").await
}

/// Makes each of these functions of a [`Fleet`] a test on Redis and one on PostgreSQL.
macro_rules! on_each_store {
    ($($test:ident)*) => {
        mod redis {
            $(#[tokio::test]
            async fn $test() {
                let server = super::Redis::start();
                let connect = async || super::RedisStore::connect(server.url()).await.unwrap();
                super::$test(super::Fleet::start([connect().await, connect().await]).await).await;
            })*
        }

        mod postgres {
            $(#[tokio::test]
            async fn $test() {
                let server = super::Postgres::start();
                let connect = async || super::PostgresStore::connect(&server.url()).await.unwrap();
                let stores = [connect().await, connect().await];
                stores[0].migrate().await.unwrap();
                super::$test(super::Fleet::start(stores).await).await;
            })*
        }
    };
}

on_each_store! {
    a_response_of_the_next_release_is_refused_for_now_and_stays
    the_next_release_replays_what_this_one_stored
    a_duplicate_of_a_run_on_the_next_release_waits_and_is_refused_without_a_run
    a_duplicate_of_a_run_on_this_release_waits_on_the_next_one_and_gets_its_response
}

fn assert_refused_for_now(answer: &Answer) {
    assert_eq!(answer.problem(), (503, "store_unavailable".to_owned()));
    assert!(answer.header(header::RETRY_AFTER).unwrap().parse::<u32>().unwrap() >= 1);
}

fn assert_replay(answer: &Answer, first: &Answer) {
    assert!(answer.is_replay() && !first.is_replay());
    assert_eq!((answer.status, &answer.body), (first.status, &first.body));
}

async fn a_response_of_the_next_release_is_refused_for_now_and_stays(fleet: Fleet) {
    fleet.gate.open(9);
    let key = fresh_key();
    let first = send(&fleet.next, &key).await;
    assert_eq!((first.status, first.text()), (StatusCode::CREATED, "order 1"));
    for _ in 0..2 {
        assert_refused_for_now(&send(&fleet.this, &key).await);
        assert_replay(&send(&fleet.next, &key).await, &first);
    }
    let other = fleet.this.post("/orders", &key, "three apples").await;
    assert_eq!(other.problem(), (422, "key_reused".to_owned()), "that is not in the record");
    assert_eq!(fleet.runs(), 1);
    assert_eq!(send(&fleet.this, &fresh_key()).await.text(), "order 2", "other keys run");
}

async fn the_next_release_replays_what_this_one_stored(fleet: Fleet) {
    fleet.gate.open(9);
    let key = fresh_key();
    let first = send(&fleet.this, &key).await;
    assert_eq!((first.status, first.text()), (StatusCode::CREATED, "order 1"));
    for instance in [&fleet.next, &fleet.this] {
        assert_replay(&send(instance, &key).await, &first);
    }
    assert_eq!(fleet.runs(), 1);
}

async fn a_duplicate_of_a_run_on_the_next_release_waits_and_is_refused_without_a_run(fleet: Fleet) {
    let key = fresh_key();
    let running = fleet.next.open("/orders", &key, "two apples").await;
    fleet.gate.arrived.reaches(1).await;
    let duplicate = fleet.this.open("/orders", &key, "two apples").await;
    fleet.waits_of_this.reaches(1).await;
    fleet.gate.open(9);
    let first = running.reply().await.unwrap();
    assert_eq!((first.status, first.text()), (StatusCode::CREATED, "order 1"));
    assert_refused_for_now(&duplicate.reply().await.unwrap());
    assert_replay(&send(&fleet.next, &key).await, &first);
    assert_eq!(fleet.runs(), 1);
}

async fn a_duplicate_of_a_run_on_this_release_waits_on_the_next_one_and_gets_its_response(
    fleet: Fleet,
) {
    let key = fresh_key();
    let running = fleet.this.open("/orders", &key, "two apples").await;
    fleet.gate.arrived.reaches(1).await;
    let duplicate = fleet.next.open("/orders", &key, "two apples").await;
    fleet.waits_of_next.reaches(1).await;
    fleet.gate.open(9);
    let first = running.reply().await.unwrap();
    assert_eq!((first.status, first.text()), (StatusCode::CREATED, "order 1"));
    assert_replay(&duplicate.reply().await.unwrap(), &first);
    assert_eq!(fleet.runs(), 1);
}
