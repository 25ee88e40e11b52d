//! A server that forgets, restarts, dies, hangs, refuses, or loses an answer.

use std::{fs, os::unix::fs::symlink, path::PathBuf, time::Duration};

use ::redis::{
    Client,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use idempotent_runtime::{Claim, RedisStore, Store};
use idempotent_test_support::{PATIENCE, chain, history::Recorder};
use test_servers::{Fault, Proxy, Redis};
use tokio::time::timeout;

use super::{LEASE, TTL, assert_claimed, claim, claimed, connect, look};
use crate::{NOT_SENT, RECORD, assert_told_once, at, fresh, is_held};

#[tokio::test]
async fn a_server_that_forgot_the_scripts_gets_them_again() {
    let redis = Redis::start();
    let recorder = Recorder::default();
    let store = recorder.instance(connect(&redis).await);
    let forget = || assert_eq!(redis.cli(&["SCRIPT", "FLUSH"]), "OK");
    for _ in 0..2 {
        let attempt = claimed(&store).await;
        assert!(is_held(store.renew(&attempt, LEASE).await));
        forget();
        assert!(is_held(store.renew(&attempt, LEASE).await));
        assert!(matches!(look(&store, attempt.key).await, Claim::Running { .. }));
        assert!(is_held(store.complete(&attempt, RECORD, TTL).await));
        forget();
        store.release(&attempt).await.unwrap();
        assert!(matches!(look(&store, attempt.key).await, Claim::Stored { .. }));
        forget();
    }
    recorder.history().assert_linearizable();
}

#[tokio::test]
async fn a_restart_of_the_server_is_not_noticed() {
    let redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let recorder = Recorder::default();
    let store = recorder.instance(connect(&redis).await);
    let stored = claimed(&store).await;
    assert!(is_held(store.complete(&stored, RECORD, TTL).await));
    let running = claimed(&store).await;
    for _ in 0..3 {
        redis.restart();
        // The first call meets the broken connection, the first of each verb a missing script.
        assert!(is_held(store.renew(&running, LEASE).await));
        assert!(matches!(look(&store, running.key).await, Claim::Running { .. }));
        let Claim::Stored { record, .. } = look(&store, stored.key).await else {
            panic!("the record is still there");
        };
        assert_eq!(record, RECORD);
    }
    redis.restart();
    assert!(is_held(store.complete(&running, RECORD, TTL).await));
    recorder.history().assert_linearizable();
}

#[tokio::test]
async fn a_dead_server_is_an_error_that_names_the_cause_until_it_is_back() {
    let redis = Redis::start();
    let recorder = Recorder::default();
    let store = recorder.instance(connect(&redis).await);
    let attempt = claimed(&store).await;
    redis.kill();
    for call in 0..3 {
        let error = claim(&store, &attempt).await.expect_err("nobody answers");
        assert!(chain(&error).contains("refused"), "{}", chain(&error));
        assert_told_once(&error);
        // The first call may have been sent over the connection that was there.
        assert_eq!(error.to_string() == NOT_SENT, call > 0, "call {call}: {error}");
        store.complete(&attempt, RECORD, TTL).await.expect_err("nobody answers");
    }
    redis.restart();
    // The runtime tries a claim twice: a connection that failed before is replaced by the first.
    let first = claim(&store, &attempt).await;
    let second = claim(&store, &attempt).await;
    assert_claimed(first.or(second));
    recorder.history().assert_linearizable();
}

#[tokio::test]
async fn a_server_that_hangs_is_used_again_when_it_goes_on() {
    let redis = Redis::start();
    let recorder = Recorder::default();
    let store = recorder.instance(connect(&redis).await);
    let attempt = claimed(&store).await;
    redis.pause();
    let cut_off = || timeout(Duration::from_millis(100), store.renew(&attempt, LEASE));
    cut_off().await.expect_err("nobody answers");
    cut_off().await.expect_err("nobody answers");
    redis.resume();
    assert_claimed(claim(&store, &attempt).await);
    claimed(&store).await;
    recorder.history().assert_linearizable();
}

/// Calls until one succeeds, as the requests of a service do.
async fn recovered(store: &RedisStore) {
    let claims = async {
        while claim(store, &fresh()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, claims).await.expect("it recovers by itself");
}

#[tokio::test]
async fn a_login_that_was_refused_is_tried_again() {
    let redis = Redis::start();
    let password = |user: &str, password: &str| {
        let set = ["ACL", "SETUSER", user, "on", "resetpass", password, "~*", "+@all"];
        assert_eq!(redis.cli(&set), "OK");
    };
    password("app", ">secret");
    let url = redis.url().replace("//", "//app:secret@");
    let store = RedisStore::connect(url).await.unwrap();
    claimed(&store).await;
    password("app", ">changed");
    redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    for call in 0..3 {
        let error = claim(&store, &fresh()).await.expect_err("no login");
        assert!(chain(&error).contains("authentication failed"), "{}", chain(&error));
        // The first call may have been sent over the connection that was there.
        assert!(call == 0 || error.to_string() == NOT_SENT, "call {call}: {error}");
    }
    password("app", ">secret");
    recovered(&store).await;
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_left_for_the_new_primary() {
    let [old, new] = [(); 2].map(|()| Redis::start_with(&["--unixsocket", "socket"]));
    let directory = |redis: &Redis| {
        let answer = redis.cli(&["CONFIG", "GET", "dir"]);
        PathBuf::from(answer.lines().last().unwrap())
    };
    // Acts as a name that leads to the primary.
    let primary = directory(&old).join("primary");
    symlink(directory(&old).join("socket"), &primary).unwrap();
    let store = RedisStore::connect(format!("unix://{}", primary.display())).await.unwrap();
    claimed(&store).await;

    let address = new.address();
    old.cli(&["REPLICAOF", &address.ip().to_string(), &address.port().to_string()]);
    let error = claim(&store, &fresh()).await.expect_err("a replica");
    assert!(chain(&error).contains("read only"), "{}", chain(&error));
    fs::remove_file(&primary).unwrap();
    symlink(directory(&new).join("socket"), &primary).unwrap();
    recovered(&store).await;
    assert_eq!(new.cli(&["DBSIZE"]), "1");
}

#[tokio::test]
async fn a_slow_answer_is_waited_for() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    let store = RedisStore::connect(redis.url_through(&proxy)).await.unwrap();
    let attempt = claimed(&store).await;
    // The round trip takes longer than the 500 ms that the client waits by default.
    proxy.set(Fault::Latency(Duration::from_millis(400)));
    assert_claimed(claim(&store, &attempt).await);
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_its_tokens() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    let recorder = Recorder::default();
    let store = recorder.instance(RedisStore::connect(redis.url_through(&proxy)).await.unwrap());
    claimed(&store).await;
    let attempt = fresh();
    proxy.set(Fault::LoseReplies);
    let error = claim(&store, &attempt).await.expect_err("the answer is lost");
    assert_ne!(error.to_string(), NOT_SENT);
    proxy.set(Fault::None);
    let other = recorder.instance(connect(&redis).await);
    assert!(matches!(look(&other, attempt.key).await, Claim::Running { .. }), "the claim was made");
    let first = claim(&store, &attempt).await;
    assert_claimed(first.or(claim(&store, &attempt).await));
    recorder.history().assert_linearizable();
}

#[tokio::test]
async fn a_wait_ends_if_the_server_is_gone() {
    let redis = Redis::start();
    let store = connect(&redis).await;
    let attempt = claimed(&store).await;
    redis.kill();
    timeout(PATIENCE, store.wait(attempt.key, TTL)).await.expect("the claim that follows says why");
}

#[tokio::test]
async fn a_server_that_accepts_and_is_silent_may_have_got_the_call() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(Duration::from_millis(100)))
        .set_response_timeout(Some(Duration::from_millis(100)))
        .set_number_of_retries(0);
    let client = Client::open(redis.url_through(&proxy)).unwrap();
    proxy.set(Fault::Stall);
    let manager = ConnectionManager::new_lazy_with_config(client, config).unwrap();
    let store = RedisStore::new(manager);
    for _ in 0..3 {
        let error = claim(&store, &fresh()).await.expect_err("nobody answers");
        assert_ne!(error.to_string(), NOT_SENT, "{}", chain(&error));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_on_its_way_may_have_arrived() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    let store = RedisStore::connect(redis.url_through(&proxy)).await.unwrap();
    let attempt = claimed(&store).await;
    proxy.set(Fault::Stall);
    let call = tokio::spawn(async move { store.renew(&attempt, LEASE).await });
    proxy.await_stalled();
    proxy.set(Fault::Reset);
    let error = call.await.unwrap().expect_err("the connection is reset");
    assert_ne!(error.to_string(), NOT_SENT, "{}", chain(&error));
}

#[tokio::test]
async fn a_host_without_an_address_gets_no_call() {
    let client = Client::open("redis://nowhere.invalid").unwrap();
    let config = ConnectionManagerConfig::new().set_number_of_retries(0);
    let manager = ConnectionManager::new_lazy_with_config(client, config).unwrap();
    let error = claim(&RedisStore::new(manager), &fresh()).await.expect_err("no such host");
    assert_eq!(error.to_string(), NOT_SENT, "{}", chain(&error));
}

#[tokio::test]
async fn a_forget_that_may_have_arrived_is_not_sent_again() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    let store = RedisStore::connect(redis.url_through(&proxy)).await.unwrap();
    let other = connect(&redis).await;
    let attempt = claimed(&store).await;
    proxy.set(Fault::LoseReplies);
    let error = store.forget(attempt.key, true).await.expect_err("the answer is lost");
    assert_ne!(error.to_string(), NOT_SENT);
    // Somebody claims what it has freed; a second `forget` would free that.
    let next = at(attempt.key);
    assert_claimed(claim(&other, &next).await);
    proxy.set(Fault::None);
    let look = async || claim(&store, &at(attempt.key)).await;
    let first = look().await;
    let found = first.or(look().await).expect("the store goes on");
    assert!(matches!(found, Claim::Running { .. }), "{found:?}");
    assert!(is_held(other.renew(&next, LEASE).await));
}
