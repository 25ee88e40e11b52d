//! A Redis Cluster whose nodes write to their disks before they answer.

use idempotent_runtime::RedisStore;
use test_servers::{Redis, RedisCluster};
use tokio::task::block_in_place;

use super::{check, disturb, silence};

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_cluster_is_linearizable() {
    let cluster = RedisCluster::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let replica = cluster.replica(0);
    let [first, second, third] = cluster.nodes() else { panic!("three nodes") };
    let mut instances = Vec::new();
    for _ in 0..3 {
        instances.push(RedisStore::connect_cluster(cluster.urls()).await.unwrap());
    }
    check("redis cluster", instances, async |load| {
        for (to, from) in [(&replica, first), (first, &replica)] {
            // The old master hands over what it has: nothing is lost, unlike when it dies.
            disturb(load, || fail_over(to)).await;
            assert_eq!(from.cli(&["SCRIPT", "FLUSH"]), "OK");
        }
        silence(load, || third.pause(), || third.resume()).await;
        silence(load, || second.kill(), || second.restart()).await;
        block_in_place(|| cluster.await_ok());
        assert_eq!(second.cli(&["SCRIPT", "FLUSH"]), "OK");
    })
    .await;
}

/// Makes a replica the master.
fn fail_over(replica: &Redis) {
    let is_master = || replica.cli(&["ROLE"]).starts_with("master");
    // A master waits for the replica to catch up, and gives up if it does not in time.
    while !is_master() {
        let reply = replica.cli(&["CLUSTER", "FAILOVER"]);
        assert!(reply == "OK" || is_master(), "{reply}");
        for _ in 0..100 {
            if is_master() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
