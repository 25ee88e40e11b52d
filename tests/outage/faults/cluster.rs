//! Faults of one node of a Redis Cluster: a third of the keys is out of reach.

use std::sync::Arc;

use test_servers::{Redis, RedisCluster};

use super::{Change, Row, Scene};
use crate::service::Access;

pub(super) fn rows() -> Vec<Row> {
    let row = |fault, scene| Row {
        store: "Redis Cluster",
        fault,
        rate: None,
        pool: 3,
        loses_writes: false,
        has_copies: false,
        scene,
    };
    vec![
        // Without an AOF.
        Row {
            loses_writes: true,
            ..row("a node killed, restarted without a log", || {
                simple(
                    |it| it.nodes()[0].kill(),
                    |it| {
                        it.nodes()[0].restart();
                        it.await_ok();
                    },
                )
            })
        },
        row("a node stopped, continued", || {
            simple(
                |it| it.nodes()[0].pause(),
                |it| {
                    it.nodes()[0].resume();
                    it.await_ok();
                },
            )
        }),
        row("`SCRIPT FLUSH`", || simple(flush, flush)),
        Row { loses_writes: true, ..row("failover of a node to its replica", failover) },
    ]
}

fn flush(cluster: &RedisCluster) {
    for node in cluster.nodes() {
        assert_eq!(node.cli(&["SCRIPT", "FLUSH"]), "OK");
    }
}

fn ports(cluster: &RedisCluster) -> Vec<u16> {
    cluster.nodes().iter().map(|node: &Redis| node.address().port()).collect()
}

fn simple(begin: fn(&RedisCluster), end: fn(&RedisCluster)) -> Scene {
    let cluster = Arc::new(RedisCluster::start());
    let change = |change: fn(&RedisCluster)| -> Change {
        let cluster = Arc::clone(&cluster);
        Box::new(move || change(&cluster))
    };
    Scene {
        access: Access::Cluster(cluster.urls()),
        ports: ports(&cluster),
        begin: change(begin),
        end: change(end),
        is_repeatable: true,
    }
}

fn failover() -> Scene {
    let cluster = Arc::new(RedisCluster::start());
    let replica = cluster.replica(0);
    // Not on its own, once the others consider its master dead: the outage ends when the row says so.
    let manual = ["CONFIG", "SET", "cluster-replica-no-failover", "yes"];
    assert_eq!(replica.cli(&manual), "OK");
    let ports = ports(&cluster).into_iter().chain([replica.address().port()]).collect();
    let access = Access::Cluster(cluster.urls());
    Scene {
        access,
        ports,
        begin: Box::new(move || cluster.nodes()[0].kill()),
        end: Box::new(move || {
            assert_eq!(replica.cli(&["CLUSTER", "FAILOVER", "TAKEOVER"]), "OK");
        }),
        is_repeatable: false,
    }
}
