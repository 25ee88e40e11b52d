//! The memory store stays within its bounds, and keeps everything that fits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use axum::{Router, extract::State, http::Method, routing::post};
use bytes::Bytes;
use idempotent_axum::{
    Attempt, Claim, Fingerprint, Hold, Idempotency, MemoryStore, Store as _, StoreKey, Token,
    idempotent,
};
use idempotent_test_support::{Events, ask};
use tracing::Level;

const FINGERPRINT: Fingerprint = Fingerprint::from_bytes([7; 16]);
const HOUR: Duration = Duration::from_secs(3600);
const MIB: usize = 1 << 20;

fn fresh_key() -> StoreKey {
    StoreKey::from_bytes(*Token::random().as_bytes())
}

fn attempt(key: StoreKey) -> Attempt {
    Attempt::new(key, FINGERPRINT, Token::random())
}

async fn claim(store: &MemoryStore, attempt: &Attempt) -> Claim {
    store.claim(attempt, HOUR).await.unwrap()
}

/// Stores a record under a fresh key.
async fn put(store: &MemoryStore, record: Bytes, ttl: Duration) -> StoreKey {
    let attempt = attempt(fresh_key());
    assert_eq!(claim(store, &attempt).await, Claim::Claimed { lease: None });
    assert_eq!(store.complete(&attempt, record, ttl).await.unwrap(), Hold::Held);
    attempt.key
}

async fn is_stored(store: &MemoryStore, key: StoreKey) -> bool {
    let attempt = attempt(key);
    let found = claim(store, &attempt).await;
    store.release(&attempt).await.unwrap();
    matches!(found, Claim::Stored { .. })
}

/// Bytes that are counted while they are alive, wherever they are held.
struct Counted(Vec<u8>, Arc<AtomicUsize>);

impl Counted {
    fn record(length: usize, alive: &Arc<AtomicUsize>) -> Bytes {
        alive.fetch_add(length, Ordering::SeqCst);
        Bytes::from_owner(Self(vec![0; length], Arc::clone(alive)))
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0.len(), Ordering::SeqCst);
    }
}

/// Several threads store records of these lengths in turn; returns the peak number of bytes, as the
/// store reports it and as they were alive.
fn flood(store: &MemoryStore, lengths: &[usize], records: usize) -> (u64, usize) {
    const THREADS: usize = 4;
    let alive = Arc::new(AtomicUsize::new(0));
    let done = AtomicBool::new(false);
    let most = thread::scope(|scope| {
        let floods: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    let mut most_alive = 0;
                    for number in 0..records / THREADS {
                        let record = Counted::record(lengths[number % lengths.len()], &alive);
                        runtime.block_on(put(store, record, HOUR));
                        most_alive = most_alive.max(alive.load(Ordering::SeqCst));
                    }
                    most_alive
                })
            })
            .collect();
        let watcher = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::SeqCst) {
                most = most.max(store.stored_bytes());
            }
            most
        });
        let ended: Vec<_> = floods.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::SeqCst);
        let most_alive = ended.into_iter().map(Result::unwrap).max().unwrap();
        (watcher.join().unwrap(), most_alive)
    });
    assert!(store.evicted() > 0, "the flood is larger than the store");
    most
}

fn assert_within((said, alive): (u64, usize), max_bytes: usize) {
    let limit = max_bytes + max_bytes / 10;
    assert!(said <= limit as u64, "the store says {said} of {max_bytes}");
    assert!(alive <= limit, "{alive} bytes are alive, of {max_bytes}");
}

#[test]
fn max_bytes_holds_under_a_flood_of_small_records() {
    let store = MemoryStore::builder().max_bytes(4 << 20).build();
    assert_within(flood(&store, &[100], 100_000), 4 * MIB);
}

#[test]
fn max_bytes_holds_under_a_flood_of_large_records() {
    let store = MemoryStore::builder().max_bytes(32 << 20).build();
    assert_within(flood(&store, &[MIB], 400), 32 * MIB);
}

#[test]
fn max_bytes_holds_where_large_records_follow_small_ones() {
    let store = MemoryStore::builder().max_bytes(32 << 20).build();
    assert_within(flood(&store, &[10], 120_000), 32 * MIB);
    assert_within(flood(&store, &[MIB], 200), 32 * MIB);
    assert_within(flood(&store, &[MIB, 10, 10, 10], 400), 32 * MIB);
}

#[tokio::test]
async fn a_new_response_is_never_the_one_that_is_refused() {
    for length in [10, 10_000, MIB] {
        let store = MemoryStore::builder().max_bytes(8 << 20).build();
        for _ in 0..8 * MIB / (length + 300) * 2 {
            let key = put(&store, vec![0; length].into(), HOUR).await;
            assert!(is_stored(&store, key).await);
            let _ = store.stored_bytes();
            assert!(is_stored(&store, key).await);
        }
        assert!(store.evicted() > 0);
    }
}

#[tokio::test]
async fn claims_in_flight_survive_a_flood() {
    let store = MemoryStore::builder().max_bytes(1 << 20).build();
    let mut claims = Vec::new();
    for _ in 0..1000 {
        let attempt = attempt(fresh_key());
        claim(&store, &attempt).await;
        claims.push(attempt);
    }
    for _ in 0..20_000 {
        put(&store, Bytes::from_static(&[0; 1000]), HOUR).await;
    }
    assert!(store.evicted() > 0);
    for ours in claims {
        let found = claim(&store, &attempt(ours.key)).await;
        assert!(matches!(found, Claim::Running { .. }), "{found:?}");
        let stored = store.complete(&ours, Bytes::from_static(b"done"), HOUR).await;
        assert_eq!(stored.unwrap(), Hold::Held);
        assert!(is_stored(&store, ours.key).await);
    }
}

#[tokio::test]
async fn evictions_before_the_ttl_are_counted_and_logged_at_a_limited_rate() {
    let (events, _guard) = Events::of_thread();
    let store = MemoryStore::builder().max_bytes(1 << 20).build();
    let mut keys = Vec::new();
    for _ in 0..3000 {
        keys.push(put(&store, Bytes::from_static(&[0; 1000]), HOUR).await);
    }
    let _ = store.stored_bytes();
    let mut missing = 0;
    for key in keys {
        missing += u64::from(!is_stored(&store, key).await);
    }
    assert!(missing > 1000);
    assert_eq!(store.evicted(), missing);
    let warnings = events.at(Level::WARN);
    // More than one only if the machine takes ten seconds for this.
    assert!((1..10).contains(&warnings.len()), "{warnings:?}");
    assert!(warnings[0].contains("evicted before their ttl"), "{warnings:?}");
}

#[tokio::test]
async fn what_expires_is_no_eviction() {
    let (events, _guard) = Events::of_thread();
    let store = MemoryStore::new();
    put(&store, Bytes::from_static(b"record"), Duration::from_millis(1)).await;
    while store.stored_bytes() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(store.evicted(), 0);
    assert!(events.at(Level::WARN).is_empty());
}

#[tokio::test]
async fn every_record_has_its_own_ttl() {
    let store = MemoryStore::new();
    let month =
        put(&store, Bytes::from_static(b"month"), Duration::from_secs(30 * 24 * 3600)).await;
    let second = put(&store, Bytes::from_static(b"second"), Duration::from_secs(1)).await;
    let century =
        put(&store, Bytes::from_static(b"century"), Duration::from_secs(876_000 * 3600)).await;
    assert!(is_stored(&store, month).await);
    while is_stored(&store, second).await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let _ = store.stored_bytes();
    assert!(is_stored(&store, month).await);
    assert!(is_stored(&store, century).await);
}

#[tokio::test]
async fn expiry_frees_memory_without_traffic() {
    let alive = Arc::new(AtomicUsize::new(0));
    let store = MemoryStore::new();
    for _ in 0..2 {
        for _ in 0..100 {
            put(&store, Counted::record(1000, &alive), Duration::from_secs(1)).await;
        }
        assert_eq!(alive.load(Ordering::SeqCst), 100_000);
        // Nobody calls the store any more.
        while alive.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn a_record_larger_than_max_bytes_is_refused_and_its_claim_untouched() {
    let store = MemoryStore::builder().max_bytes(1 << 20).build();
    let ours = attempt(fresh_key());
    claim(&store, &ours).await;
    let refused = store.complete(&ours, vec![0; 2 << 20].into(), HOUR).await;
    assert!(refused.unwrap_err().to_string().contains("larger than"));
    assert!(matches!(claim(&store, &attempt(ours.key)).await, Claim::Running { .. }));
    let stored = store.complete(&ours, Bytes::from_static(b"small"), HOUR).await;
    assert_eq!(stored.unwrap(), Hold::Held);
}

#[idempotent]
async fn large(State(runs): State<Arc<AtomicUsize>>) -> Vec<u8> {
    runs.fetch_add(1, Ordering::SeqCst);
    vec![b'a'; 100 << 10]
}

#[tokio::test]
async fn a_response_larger_than_max_bytes_is_409_for_duplicates() {
    let store = MemoryStore::builder().max_bytes(64 << 10).build();
    let runs = Arc::new(AtomicUsize::new(0));
    let router = Router::new()
        .route("/large", post(large))
        .layer(Idempotency::new(store))
        .with_state(Arc::clone(&runs));
    let key = idempotent_test_support::fresh_key();
    let send = async || ask(Method::POST, "/large").key(&key).send(&router).await;
    let first = send().await;
    assert_eq!((first.status.as_u16(), first.body.len()), (200, 100 << 10));
    assert_eq!(send().await.problem(), (409, "response_not_stored".to_owned()));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}
