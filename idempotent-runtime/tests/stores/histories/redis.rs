//! One Redis that writes what it was told to its disk before it answers, and one that loses what it
//! has written.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use idempotent_runtime::{RedisStore, Store};
use idempotent_test_support::{
    PATIENCE,
    history::{Asked, Load, Recorder},
};
use test_servers::{Proxy, Redis};
use tokio::task::block_in_place;

use super::{check, cut, disturb, silence};
use crate::{at, fresh};

const LONG: Duration = Duration::from_secs(3600);

fn durable() -> Redis {
    Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_linearizable() {
    let server = durable();
    let proxy = Proxy::start(server.address());
    let mut instances = Vec::new();
    for url in [server.url(), server.url_through(&proxy), server.url_through(&proxy)] {
        instances.push(RedisStore::connect(url).await.unwrap());
    }
    check("redis", instances, async |load| {
        disturb(load, || server.restart()).await;
        cut(load, &proxy).await;
        assert_eq!(server.cli(&["SCRIPT", "FLUSH"]), "OK");
        silence(load, || server.pause(), || server.resume()).await;
        disturb(load, || drop(server.cli(&["CLIENT", "KILL", "TYPE", "normal"]))).await;
        silence(load, || server.kill(), || server.restart()).await;
    })
    .await;
}

/// The file that the server of `redis` appends to.
fn log(redis: &Redis) -> PathBuf {
    let answer = redis.cli(&["CONFIG", "GET", "dir"]);
    let directory = PathBuf::from(answer.lines().last().unwrap());
    // A directory of such files since Redis 7.
    let logs = fs::read_dir(directory.join("appendonlydir")).into_iter().flatten();
    let mut logs = logs.map(|entry| entry.unwrap().path());
    let newest = logs.find(|path| path.to_str().is_some_and(|path| path.ends_with(".incr.aof")));
    newest.unwrap_or_else(|| directory.join("appendonly.aof"))
}

/// Restarts the server without what it has appended to its file since that was this long.
fn restart_cut_back(redis: &Redis, log: &Path, length: u64) {
    redis.kill();
    File::options().write(true).open(log).unwrap().set_len(length).unwrap();
    redis.restart();
}

/// A server whose disk has lost what it claimed to have kept.
#[tokio::test]
async fn a_claim_that_a_redis_lost_is_found() {
    let redis = durable();
    let recorder = Recorder::default();
    let store = recorder.instance(RedisStore::connect(redis.url()).await.unwrap());
    let log = log(&redis);
    let empty = fs::metadata(&log).unwrap().len();
    let attempt = fresh();
    store.claim(&attempt, LONG).await.unwrap();
    redis.restart();
    store.claim(&at(attempt.key), LONG).await.unwrap();
    recorder.history().assert_linearizable();

    restart_cut_back(&redis, &log, empty);
    store.claim(&at(attempt.key), LONG).await.unwrap();
    let violation = recorder.history().check().expect_err("two tokens have claimed it");
    assert!(matches!(violation.call.asked, Asked::Claim(_)), "{violation}");
}

/// The same under load: the loss is found at whichever keys were in use.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_whose_log_was_cut_back_is_found() {
    let redis = durable();
    let log = log(&redis);
    let began = Instant::now();
    for seed in 1.. {
        let instances = [RedisStore::connect(redis.url()).await.unwrap()];
        let load = Load::start(instances, seed);
        load.answers(100).await;
        let length = fs::metadata(&log).unwrap().len();
        load.answers(10).await;
        disturb(&load, || restart_cut_back(&redis, &log, length)).await;
        if block_in_place(|| load.stop()).check().is_err() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "it is not found in {seed} histories");
    }
}
