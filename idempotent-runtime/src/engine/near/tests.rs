use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use super::*;
use crate::store::Token;

const MIB: usize = 1 << 20;
const HOUR: Duration = Duration::from_secs(3600);

fn fresh_key() -> StoreKey {
    StoreKey::from_bytes(*Token::random().as_bytes())
}

fn copy(answer: Bytes) -> impl FnOnce(Instant) -> Copied {
    let fingerprint = Fingerprint::from_bytes([7; 16]);
    move |until| Copied { fingerprint, form: Form::Answer, answer, extracted: None, until }
}

/// Keeps `answer` for a new key.
fn put(near: &Near, answer: Bytes) -> StoreKey {
    let (key, moment) = (fresh_key(), near.moment().expect("copies are kept"));
    near.keep(key, moment, HOUR, copy(answer));
    key
}

/// Bytes that are counted while they are alive, wherever they are kept.
struct Counted(Vec<u8>, Arc<AtomicUsize>);

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

/// The most bytes that were alive at once while several threads kept copies of this length.
fn flood(near: &Near, length: usize, copies: usize) -> usize {
    const THREADS: usize = 4;
    let alive = Arc::new(AtomicUsize::new(0));
    let most = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..copies / THREADS {
                    let now = alive.fetch_add(length, Ordering::SeqCst) + length;
                    most.fetch_max(now, Ordering::SeqCst);
                    let answer = Counted(vec![7; length], Arc::clone(&alive));
                    put(near, Bytes::from_owner(answer));
                }
            });
        }
    });
    most.into_inner()
}

#[test]
fn max_bytes_holds_under_a_flood() {
    for (length, copies) in [(100, 40_000), (16 << 10, 10_000), (MIB, 400)] {
        let near = Near::new(16 * MIB);
        let most = flood(&near, length, copies);
        println!("copies of {length}: {} KiB", most / 1024);
        // Plus what the threads are holding.
        let limit = 16 * MIB + 8 * length;
        assert!(most <= limit, "{most} bytes are alive in copies of {length}, not {limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_ends_in_time() {
    const MILLI: Duration = Duration::from_millis(1);
    let near = Near::new(MIB);
    let second = Duration::from_secs(1);
    for (time, lives_for) in [
        (second, second.saturating_sub(ROUNDING)),
        (HOUR, LONGEST),
        (LONGEST, LONGEST.saturating_sub(ROUNDING)),
    ] {
        let (key, moment) = (fresh_key(), near.moment().expect("copies are kept"));
        tokio::time::advance(second / 2).await;
        near.keep(key, moment, time, copy(Bytes::from_static(b"answer")));
        tokio::time::advance(lives_for.saturating_sub(second / 2 + MILLI)).await;
        assert!(near.get(key).is_some(), "{time:?}");
        tokio::time::advance(MILLI).await;
        assert!(near.get(key).is_none(), "{time:?}");
    }
    // It expires once the store has answered.
    let (key, moment) = (fresh_key(), near.moment().expect("copies are kept"));
    tokio::time::advance(second).await;
    near.keep(key, moment, second, copy(Bytes::from_static(b"answer")));
    assert!(near.get(key).is_none());
}

#[test]
fn of_a_call_that_began_before_the_end_of_a_forget_no_copy_is_made() {
    let near = Near::new(MIB);
    let keep = |key, moment: Option<Moment>| {
        near.keep(key, moment.expect("copies are kept"), HOUR, copy(Bytes::new()));
    };
    let key = put(&near, Bytes::new());
    let before = near.moment();
    let forgetting = near.forgetting(key);
    let meanwhile = near.moment();
    assert!(near.get(key).is_none());
    // It may be from before.
    keep(key, before);
    assert!(near.get(key).is_none());
    keep(key, meanwhile);
    drop(forgetting);
    assert!(near.get(key).is_none());
    keep(key, meanwhile);
    assert!(near.get(key).is_none());
    keep(key, near.moment());
    assert!(near.get(key).is_some());
}

/// Calls that end at any time alongside many forgets: once a key is forgotten, nothing remains that
/// an earlier call reported.
#[test]
fn nothing_comes_back_after_a_forget() {
    const CALLERS: usize = 3;
    let (near, key) = (Near::new(MIB), fresh_key());
    // Whether what the store holds was there before the key was forgotten.
    let (is_old, is_over) = (AtomicBool::new(true), AtomicBool::new(false));
    let copies = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    let moment = near.moment().expect("copies are kept");
                    if is_old.load(Ordering::SeqCst) {
                        near.keep(key, moment, HOUR, copy(Bytes::from_static(b"old")));
                        copies.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        for _ in 0..500 {
            let before = copies.load(Ordering::SeqCst);
            while copies.load(Ordering::SeqCst) == before {
                thread::yield_now();
            }
            let forgetting = near.forgetting(key);
            is_old.store(false, Ordering::SeqCst);
            drop(forgetting);
            for _ in 0..10 {
                assert!(near.get(key).is_none(), "it is forgotten");
                thread::yield_now();
            }
            is_old.store(true, Ordering::SeqCst);
        }
        is_over.store(true, Ordering::SeqCst);
    });
}
