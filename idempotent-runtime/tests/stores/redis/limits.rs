//! A server without memory, and entries that are not this release's.

use std::fmt::Debug;

use idempotent_runtime::{Claim, Store, StoreError};
use idempotent_test_support::chain;
use test_servers::Redis;

use super::{LEASE, TTL, claim, claimed, connect, look};
use crate::{FINGERPRINT, FOREIGN, RECORD, fresh, is_held};

#[tokio::test]
async fn full_memory_at_completion_keeps_duplicates_out_for_the_ttl() {
    let redis = Redis::start();
    let store = connect(&redis).await;
    let kept = claimed(&store).await;
    assert!(is_held(store.complete(&kept, RECORD, TTL).await));
    let attempt = claimed(&store).await;
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);

    let error = store.complete(&attempt, vec![0; 1000].into(), TTL).await.expect_err("full");
    assert!(error.to_string().contains("larger"), "{error}");
    let held_for_the_ttl = |claim| match claim {
        Claim::Running { lease_left: Some(left), .. } => assert!(left > LEASE, "{left:?}"),
        claim => panic!("the claim is held, not {claim:?}"),
    };
    held_for_the_ttl(look(&store, attempt.key).await);
    assert!(is_held(store.renew(&attempt, LEASE).await));
    held_for_the_ttl(look(&store, attempt.key).await);

    assert!(is_held(store.complete(&attempt, RECORD, TTL).await), "a note as small as a claim");
    for key in [attempt.key, kept.key] {
        let Claim::Stored { record, fingerprint, .. } = look(&store, key).await else {
            panic!("full memory does not keep a record from being read");
        };
        assert_eq!((record, fingerprint), (RECORD, FINGERPRINT));
    }
    let error = claim(&store, &fresh()).await.expect_err("a new claim needs memory");
    assert!(chain(&error).contains("OOM"), "{}", chain(&error));
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    claimed(&store).await;
}

#[track_caller]
fn assert_foreign<T: Debug>(answer: Result<T, StoreError>) -> StoreError {
    let error = answer.expect_err("an entry of a later release, or somebody else's");
    assert!(error.to_string().starts_with(FOREIGN), "{}", chain(&error));
    error
}

#[tokio::test]
async fn an_entry_of_another_format_is_an_error_and_stays() {
    let redis = Redis::start();
    let store = connect(&redis).await;
    let attempt = fresh();
    let name = format!("idempotent:{}", attempt.key);
    redis.cli(&["SET", &name, &"2".repeat(33)]);
    assert_foreign(claim(&store, &attempt).await);
    assert_foreign(store.read(attempt.key).await);
    assert_foreign(store.forget(attempt.key, true).await);
    assert!(!is_held(store.complete(&attempt, RECORD, TTL).await));
    store.release(&attempt).await.unwrap();
    assert_eq!(redis.cli(&["GET", &name]), "2".repeat(33));
    redis.cli(&["DEL", &name]);
    redis.cli(&["LPUSH", &name, "1"]);
    let error = assert_foreign(claim(&store, &attempt).await);
    assert!(chain(&error).contains("WRONGTYPE"), "{}", chain(&error));
    assert_foreign(store.read(attempt.key).await);
    assert_foreign(store.forget(attempt.key, true).await);
    assert_eq!(redis.cli(&["LLEN", &name]), "1");
}
