//! A Redis Cluster: nodes that die, hang, move slots and fail over.

use std::{env, process::Command, time::Duration};

use idempotent_runtime::{Claim, Hold, RedisStore, Store, StoreKey, testing::conformance};
use idempotent_test_support::{PATIENCE, chain, history::Recorder};
use test_servers::{Certificates, Redis, RedisCluster};
use tokio::time::timeout;

use super::{LEASE, TTL, assert_claimed, claim, claimed, look};
use crate::{RECORD, at, fresh_key, is_held};

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_cluster_conforms() {
    let cluster = RedisCluster::start();
    conformance(RedisStore::connect_cluster(cluster.urls()).await.unwrap()).await;
    let keys = |node: &Redis| node.cli(&["DBSIZE"]).parse::<u32>().unwrap();
    assert!(
        cluster.nodes().iter().all(|node| keys(node) > 0),
        "the keys are spread over all nodes"
    );
}

#[tokio::test]
async fn a_dead_node_takes_only_its_own_keys_along() {
    let cluster = RedisCluster::start();
    let recorder = Recorder::default();
    let store = recorder.instance(RedisStore::connect_cluster(cluster.urls()).await.unwrap());
    let dead = &cluster.nodes()[0];
    let (mut lost, mut kept) = (Vec::new(), Vec::new());
    while lost.len() < 3 || kept.len() < 3 {
        let attempt = claimed(&store).await;
        if is_on(&cluster, 0, attempt.key) { lost.push(attempt) } else { kept.push(attempt) }
    }
    dead.kill();
    for attempt in &kept {
        assert!(is_held(store.complete(attempt, RECORD, TTL).await));
        assert!(matches!(look(&store, attempt.key).await, Claim::Stored { .. }));
    }
    claim(&store, &lost[0]).await.expect_err("its node is dead");
    dead.restart();
    cluster.await_ok();
    for attempt in &lost {
        assert_claimed(claim(&store, attempt).await);
    }
    recorder.history().assert_linearizable();
}

#[tokio::test]
async fn a_node_that_hangs_does_not_hold_up_the_others() {
    let cluster = RedisCluster::start();
    let recorder = Recorder::default();
    let store = recorder.instance(RedisStore::connect_cluster(cluster.urls()).await.unwrap());
    let paused = &cluster.nodes()[0];
    let mut attempts = Vec::new();
    while attempts.len() < 20 {
        let attempt = claimed(&store).await;
        let is_lost = is_on(&cluster, 0, attempt.key);
        attempts.push((attempt, is_lost));
    }
    paused.pause();
    for (attempt, is_lost) in attempts {
        let renewal = store.renew(&attempt, LEASE);
        if is_lost {
            timeout(Duration::from_millis(100), renewal).await.expect_err("its node hangs");
        } else {
            assert!(is_held(timeout(PATIENCE, renewal).await.expect("its node answers")));
        }
    }
    paused.resume();
    recorder.history().assert_linearizable();
}

/// Runs itself again, in a process that trusts the cluster's authority.
#[tokio::test]
async fn a_cluster_is_reached_by_tls_at_all_its_nodes() {
    const URL: &str = "URL_OF_A_CLUSTER";
    if let Ok(url) = env::var(URL) {
        let store = RedisStore::connect_cluster([url]).await.unwrap();
        for _ in 0..20 {
            claimed(&store).await;
        }
        return;
    }
    let certificates = Certificates::new();
    let cluster = RedisCluster::start_tls(&certificates);
    let url = cluster.nodes()[0].tls_url();
    let mut again = Command::new(env::current_exe().unwrap());
    again
        .args(["--exact", "redis::cluster::a_cluster_is_reached_by_tls_at_all_its_nodes"])
        .env(URL, &url);
    again.env("SSL_CERT_FILE", certificates.authority());
    let output = again.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let keys = cluster.nodes().iter().map(|node| node.cli(&["DBSIZE"]).parse::<u32>().unwrap());
    assert_eq!(keys.sum::<u32>(), 20);

    let error = RedisStore::connect_cluster([url]).await.expect_err("nobody trusts it");
    assert!(chain(&error).contains("certificate"), "{}", chain(&error));
}

#[tokio::test]
async fn an_instance_starts_while_a_node_of_its_cluster_hangs() {
    let cluster = RedisCluster::start();
    let keys: Vec<_> = (0..20).map(|_| fresh_key()).collect();
    let (hung, served): (Vec<_>, Vec<_>) =
        keys.into_iter().partition(|&key| is_on(&cluster, 0, key));
    cluster.nodes()[0].pause();
    let connect = timeout(PATIENCE, RedisStore::connect_cluster(cluster.urls())).await;
    let store = connect.expect("does not hang").expect("two nodes answer");
    for key in served {
        assert_claimed(claim(&store, &at(key)).await);
    }
    cluster.nodes()[0].resume();
    for key in hung {
        assert_claimed(claim(&store, &at(key)).await);
    }
}

/// Whether `key` is on the node at `index`. All nodes run.
fn is_on(cluster: &RedisCluster, index: usize, key: StoreKey) -> bool {
    let node = cluster.node_of(&format!("idempotent:{key}"));
    node.address() == cluster.nodes()[index].address()
}

#[tokio::test]
async fn a_slot_that_moves_to_another_node_keeps_its_keys() {
    let cluster = RedisCluster::start();
    let [from, to, third] = cluster.nodes() else { panic!("three nodes") };
    let store = RedisStore::builder().prefix("{shop}").connect_cluster(cluster.urls()).await;
    let recorder = Recorder::default();
    let store = recorder.instance(store.unwrap());
    let slot = from.cli(&["CLUSTER", "KEYSLOT", "{shop}"]);
    assert_eq!(cluster.node_of("{shop}").address(), from.address(), "slot {slot}");
    let ids = [from, to].map(|node| node.cli(&["CLUSTER", "MYID"]));
    let early = claimed(&store).await;

    assert_eq!(to.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]]), "OK");
    assert_eq!(from.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]]), "OK");
    // Keys that are there are served there; others are asked for at the other node, which lacks the
    // scripts.
    assert!(is_held(store.renew(&early, LEASE).await));
    let late = claimed(&store).await;
    assert!(is_held(store.complete(&late, RECORD, TTL).await));
    assert_eq!([from, to].map(|node| node.cli(&["DBSIZE"])), ["1", "1"]);

    let port = to.address().port().to_string();
    let name = format!("{{shop}}:{}", early.key);
    assert_eq!(from.cli(&["MIGRATE", "127.0.0.1", &port, &name, "0", "5000"]), "OK");
    assert!(is_held(store.renew(&early, LEASE).await));
    for node in [to, from, third] {
        assert_eq!(node.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &ids[1]]), "OK");
    }
    assert!(matches!(look(&store, early.key).await, Claim::Running { .. }));
    assert!(is_held(store.complete(&early, RECORD, TTL).await));
    assert!(matches!(look(&store, late.key).await, Claim::Stored { .. }));
    claimed(&store).await;
    assert_eq!([from, to].map(|node| node.cli(&["DBSIZE"])), ["0", "3"]);
    recorder.history().assert_linearizable();
}

/// Takes a master away, makes its replica the master, and uses its keys.
async fn failover(down: impl FnOnce(&Redis), limit: Duration) {
    let cluster = RedisCluster::start();
    let replica = cluster.replica(0);
    let recorder = Recorder::default();
    let store = recorder.instance(RedisStore::connect_cluster(cluster.urls()).await.unwrap());
    let attempt = loop {
        let attempt = claimed(&store).await;
        if is_on(&cluster, 0, attempt.key) {
            break attempt;
        }
    };
    // What was not replicated yet would be lost.
    let master = &cluster.nodes()[0];
    let replicated = async {
        while replica.cli(&["DBSIZE"]) != master.cli(&["DBSIZE"]) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, replicated).await.expect("the replica has it");
    down(master);
    assert_eq!(replica.cli(&["CLUSTER", "FAILOVER", "TAKEOVER"]), "OK");
    let renewals = async {
        while !matches!(timeout(limit, store.renew(&attempt, LEASE)).await, Ok(Ok(Hold::Held))) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, renewals).await.expect("the replica is found");
    assert!(matches!(look(&store, attempt.key).await, Claim::Running { .. }));
    recorder.history().assert_linearizable();
}

#[tokio::test]
async fn the_replica_of_a_dead_master_is_found() {
    failover(Redis::kill, PATIENCE).await;
}

#[tokio::test]
async fn the_replica_of_a_master_that_hangs_is_found() {
    failover(Redis::pause, Duration::from_millis(200)).await;
}
