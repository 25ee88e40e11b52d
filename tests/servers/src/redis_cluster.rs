//! Three Redis masters that share the slots.

use std::ops::Range;

use crate::certificates::Certificates;
use crate::process::poll;
use crate::redis::Redis;

const SLOTS: u32 = 16_384;
const MASTERS: u32 = 3;

/// A Redis Cluster of three masters without replicas. A key whose master is dead is unavailable;
/// the others are still served.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Starts the nodes, gives each a third of the slots, and waits until every node says
    /// `cluster_state:ok`.
    #[must_use]
    pub fn start() -> Self {
        Self::new(&[], None)
    }

    /// Like [`start`](Self::start), with further arguments for the nodes, as in
    /// [`Redis::start_with`].
    #[must_use]
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::new(arguments, None)
    }

    /// Like [`start`](Self::start), with nodes that also accept TLS from clients, and use only TLS
    /// among themselves.
    #[must_use]
    pub fn start_tls(certificates: &Certificates) -> Self {
        Self::new(&[], Some(certificates))
    }

    fn new(arguments: &[&str], certificates: Option<&Certificates>) -> Self {
        let nodes: Vec<Redis> = (0..MASTERS).map(|_| start_node(arguments, certificates)).collect();
        for (master, node) in (0..MASTERS).zip(&nodes) {
            // Not `ADDSLOTSRANGE`, which needs Redis 7.
            let slots: Vec<String> = slots(master).map(|slot| slot.to_string()).collect();
            let add = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str));
            ok(&node.cli(&add.collect::<Vec<_>>()));
            // Distinct, so that the nodes need not settle it among themselves.
            ok(&node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(master + 1).to_string()]));
        }
        for node in &nodes[1..] {
            meet(&nodes[0], node);
        }
        let cluster = Self { nodes };
        cluster.await_ok();
        cluster
    }

    /// A replica, without TLS, of the node at index `master`. It has all of that node's data and is
    /// known to all nodes, but is not one of the [`nodes`](Self::nodes).
    #[must_use]
    pub fn replica(&self, master: usize) -> Redis {
        let master = &self.nodes[master];
        let replica = start_node(&[], None);
        meet(&replica, master);
        let id = master.cli(&["CLUSTER", "MYID"]);
        let replicates = poll(|| {
            // Until it has heard of its master.
            (replica.cli(&["CLUSTER", "REPLICATE", &id]) == "OK").then_some(())
        });
        let is_linked = replicates.is_some() && replica.is_linked_in_time();
        assert!(is_linked, "{} does not replicate", replica.url());
        let own_id = replica.cli(&["CLUSTER", "MYID"]);
        for node in &self.nodes {
            let known =
                poll(|| node.cli(&["CLUSTER", "REPLICAS", &id]).contains(&own_id).then_some(()));
            assert!(known.is_some(), "{} is unknown to {}", replica.url(), node.url());
        }
        replica
    }

    /// The URLs of all nodes.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }

    /// The nodes, to inspect, kill, pause or restart one. The node at index `i` of three serves the
    /// `i`-th third of the slots.
    #[must_use]
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// The node that serves `key`.
    #[must_use]
    pub fn node_of(&self, key: &str) -> &Redis {
        let slot = self.nodes[0].cli(&["CLUSTER", "KEYSLOT", key]);
        let slot: u32 = slot.parse().unwrap_or_else(|_| panic!("`{slot}` is no slot"));
        (0..MASTERS)
            .zip(&self.nodes)
            .find_map(|(master, node)| slots(master).contains(&slot).then_some(node))
            .expect("the nodes share all slots")
    }

    /// Waits until every node reports `cluster_state:ok` and reaches all others, after a
    /// [`Redis::restart`] of one.
    pub fn await_ok(&self) {
        for node in &self.nodes {
            let info = || node.cli(&["CLUSTER", "INFO"]);
            let reached = poll(|| {
                let info = info();
                let mut lines = info.lines().map(str::trim_end);
                let slots = format!("cluster_slots_ok:{SLOTS}");
                (lines.clone().any(|line| line == "cluster_state:ok")
                    && lines.any(|line| line == slots))
                .then_some(())
            });
            assert!(reached.is_some(), "{} is not ready:\n{}", node.url(), info());
        }
    }
}

fn start_node(arguments: &[&str], certificates: Option<&Certificates>) -> Redis {
    let options = [
        // By default, Redis makes the other masters' slots unavailable when a master dies.
        ["--cluster-require-full-coverage", "no"],
        // A master should not wait five seconds for more replicas either.
        ["--repl-diskless-sync-delay", "0"],
    ];
    Redis::start_node(&[options.as_flattened(), arguments].concat(), certificates)
}

fn slots(master: u32) -> Range<u32> {
    SLOTS * master / MASTERS..SLOTS * (master + 1) / MASTERS
}

fn meet(node: &Redis, other: &Redis) {
    let port = other.tls_port().unwrap_or(other.address().port()).to_string();
    ok(&node.cli(&["CLUSTER", "MEET", "127.0.0.1", &port]));
}

fn ok(reply: &str) {
    assert_eq!(reply, "OK");
}
