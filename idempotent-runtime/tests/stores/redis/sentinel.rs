//! A server that real Sentinels watch: it dies, hangs, or is replaced on purpose.

use std::{error::Error, time::Duration};

use idempotent_runtime::{Attempt, Claim, RedisStore, Store, testing::conformance};
use idempotent_test_support::{PATIENCE, chain};
use test_servers::{Redis, RedisSentinels};
use tokio::time::timeout;

use super::{TTL, assert_claimed, claim, claimed, look};
use crate::{RECORD, assert_told_once, fresh, is_held};

/// A server, its replica, and who watches them.
struct Watched {
    primary: Redis,
    replica: Redis,
    sentinels: RedisSentinels,
}

impl Watched {
    fn start() -> Self {
        let (primary, replica) = (Redis::start(), Redis::start());
        let sentinels = RedisSentinels::watch(&primary, &replica);
        Self { primary, replica, sentinels }
    }

    async fn store(&self) -> RedisStore {
        let store = RedisStore::connect_sentinel(self.sentinels.url(), self.sentinels.urls());
        store.await.expect("the servers run")
    }

    /// A stored response that the replica has as well.
    async fn stored(&self, store: &impl Store) -> Attempt {
        let attempt = claimed(store).await;
        assert!(is_held(store.complete(&attempt, RECORD, TTL).await));
        assert_eq!(self.primary.cli(&["WAIT", "1", "5000"]), "1");
        attempt
    }
}

/// Waits until a new key can be claimed.
async fn served(store: &impl Store) {
    let served = async {
        while !matches!(claim(store, &fresh()).await, Ok(Claim::Claimed { .. })) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, served).await.expect("the failover is followed");
}

fn keys(redis: &Redis) -> u32 {
    redis.cli(&["DBSIZE"]).parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_behind_sentinels_conforms() {
    let watched = Watched::start();
    conformance(watched.store().await).await;
    assert!(keys(&watched.primary) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_is_followed_though_a_sentinel_hangs() {
    let watched = Watched::start();
    let [hung, other, _] = watched.sentinels.sentinels() else { panic!("three Sentinels") };
    hung.pause();
    other.pause();
    // One after the other they would take longer than connecting may.
    let store = watched.store().await;
    other.resume();
    let attempt = watched.stored(&store).await;

    watched.primary.kill();
    claim(&store, &fresh()).await.expect_err("nobody has taken its place yet");
    other.await_primary(&watched.replica);
    served(&store).await;
    assert!(matches!(look(&store, attempt.key).await, Claim::Stored { .. }), "it was replicated");

    // The old one comes back, as a replica, and is not asked.
    watched.primary.restart();
    let before = keys(&watched.replica);
    for _ in 0..10 {
        assert_claimed(claim(&store, &fresh()).await);
    }
    assert_eq!(keys(&watched.replica), before + 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_hangs_is_left() {
    let watched = Watched::start();
    let store = watched.store().await;
    let attempt = watched.stored(&store).await;
    watched.primary.pause();
    let limit = Duration::from_millis(200);
    timeout(limit, store.claim(&fresh(), TTL)).await.expect_err("it does not answer");
    watched.sentinels.sentinels()[0].await_primary(&watched.replica);
    let served =
        async { while !matches!(timeout(limit, store.claim(&fresh(), TTL)).await, Ok(Ok(_))) {} };
    timeout(PATIENCE, served).await.expect("the failover is followed");
    assert!(matches!(look(&store, attempt.key).await, Claim::Stored { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_on_purpose_is_followed() {
    let watched = Watched::start();
    let store = watched.store().await;
    let attempt = watched.stored(&store).await;
    let sentinel = &watched.sentinels.sentinels()[0];
    assert_eq!(sentinel.cli(&["SENTINEL", "FAILOVER", RedisSentinels::NAME]), "OK");
    sentinel.await_primary(&watched.replica);
    // The old one takes claims until it is told, and refuses them from then on.
    let before = keys(&watched.replica);
    let followed = async {
        while keys(&watched.replica) == before {
            served(&store).await;
        }
    };
    timeout(PATIENCE, followed).await.expect("the failover is followed");
    assert!(matches!(look(&store, attempt.key).await, Claim::Stored { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sentinels_do_not_know_is_one_clear_error() {
    let watched = Watched::start();
    let urls = watched.sentinels.urls();
    let error =
        RedisStore::connect_sentinel("redis://other", &urls).await.expect_err("no such name");
    assert!(error.to_string().contains("names no server that is up"), "{error}");
    assert!(error.source().is_some());
    assert_told_once(&error);

    let error = RedisStore::connect_sentinel(watched.sentinels.url(), [watched.primary.url()]);
    let error = error.await.expect_err("that is no Sentinel");
    assert!(chain(&error).contains("sentinel"), "{}", chain(&error));

    let none: [&str; 0] = [];
    let error = RedisStore::connect_sentinel("redis://mymaster", none).await.expect_err("nobody");
    assert!(error.to_string().contains("pass at least one URL"), "{error}");

    let error = RedisStore::connect_sentinel("unix:///socket", &urls).await.expect_err("no name");
    assert!(chain(&error).contains("name of the server as its host"), "{}", chain(&error));
}
