//! Connections that people have already: whatever a pool lends.

use std::{future::ready, time::Duration};

use bb8_redis::{RedisConnectionManager, bb8};
use deadpool_redis::{Config, Runtime};
use idempotent_runtime::{Claim, RedisConnection, RedisStore, Store, testing::conformance};
use idempotent_test_support::{PATIENCE, chain};
use test_servers::Redis;
use tokio::time::timeout;

use super::{TTL, assert_claimed, claim, claimed, look};
use crate::{NOT_SENT, RECORD, fresh, is_held};

fn deadpool(url: &str, connections: usize) -> deadpool_redis::Pool {
    let builder = Config::from_url(url).builder().expect("the URL is valid");
    builder.max_size(connections).runtime(Runtime::Tokio1).build().expect("it has a runtime")
}

fn on_deadpool(url: &str, connections: usize) -> RedisStore {
    let pool = deadpool(url, connections);
    RedisStore::new(RedisConnection::from_pool(move || {
        let pool = pool.clone();
        async move { pool.get().await }
    }))
}

async fn on_bb8(url: &str) -> RedisStore {
    let manager = RedisConnectionManager::new(url).expect("the URL is valid");
    let pool = bb8::Pool::builder().max_size(4).build(manager).await.expect("the server runs");
    RedisStore::new(RedisConnection::from_pool(move || {
        let pool = pool.clone();
        async move { pool.get_owned().await }
    }))
}

/// On one connection, of which each command gets a clone.
async fn on_clones(url: &str) -> RedisStore {
    let client = ::redis::Client::open(url).expect("the URL is valid");
    let connection = client.get_multiplexed_async_connection().await.expect("the server runs");
    let get = move || ready(Ok::<_, ::redis::RedisError>(Box::new(connection.clone())));
    RedisStore::new(RedisConnection::from_pool(get))
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_on_a_pool_conform() {
    let redis = Redis::start();
    conformance(on_deadpool(&redis.url(), 4)).await;
    conformance(on_bb8(&redis.url()).await).await;
    assert!(redis.cli(&["DBSIZE"]).parse::<u32>().expect("a number") > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_of_one_connection_is_lent_each_time() {
    let redis = Redis::start();
    conformance(on_clones(&redis.url()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_on_a_lent_connection_may_have_arrived() {
    let redis = Redis::start();
    let store = on_clones(&redis.url()).await;
    redis.pause();
    let attempt = fresh();
    let (claimed, ()) = tokio::join!(claim(&store, &attempt), async {
        tokio::time::sleep(Duration::from_millis(200)).await; // it is on its way
        redis.kill();
    });
    let error = claimed.expect_err("the server is dead");
    assert_ne!(error.to_string(), NOT_SENT, "{}", chain(&error));
}

#[tokio::test]
async fn a_pool_that_has_no_connection_has_sent_nothing() {
    let redis = Redis::start();
    let store = on_deadpool(&redis.url(), 1);
    let attempt = claimed(&store).await;
    redis.kill();
    claim(&store, &fresh()).await.expect_err("the connection breaks");
    let error = claim(&store, &fresh()).await.expect_err("there is no other");
    assert_eq!(error.to_string(), NOT_SENT, "{}", chain(&error));
    assert!(chain(&error).contains("refused"), "the pool says why: {}", chain(&error));

    redis.restart();
    let served = async {
        while claim(&store, &attempt).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, served).await.expect("the pool connects again");
    assert_claimed(claim(&store, &fresh()).await);
}

#[tokio::test]
async fn an_abandoned_command_leaves_its_answer_to_nobody_else() {
    let redis = Redis::start();
    for store in [on_deadpool(&redis.url(), 1), on_bb8(&redis.url()).await] {
        let attempt = claimed(&store).await;
        assert!(is_held(store.complete(&attempt, RECORD, TTL).await));
        for _ in 0..50 {
            redis.pause();
            let abandoned = timeout(Duration::from_millis(5), store.read(attempt.key)).await;
            assert!(abandoned.is_err(), "the server is paused");
            redis.resume();
            assert_claimed(claim(&store, &fresh()).await);
        }
        assert!(matches!(look(&store, attempt.key).await, Claim::Stored { .. }));
    }
}
