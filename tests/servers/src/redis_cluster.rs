//! Three Redis masters that share the slots.

use crate::process::poll;
use crate::redis::Redis;

const SLOTS: u32 = 16_384;
const MASTERS: u32 = 3;

/// A Redis Cluster of three masters without replicas. A key whose master is dead is out of reach;
/// the others stay served.
pub struct RedisCluster {
    nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Starts the nodes, gives each a third of the slots, and waits until every node says
    /// `cluster_state:ok`.
    #[must_use]
    pub fn start() -> Self {
        // Under Redis's default a dead master takes the other masters' slots with it.
        let options = ["--cluster-require-full-coverage", "no"];
        let nodes: Vec<Redis> = (0..MASTERS).map(|_| Redis::start_node(&options)).collect();
        for (master, node) in (0..MASTERS).zip(&nodes) {
            let first = SLOTS * master / MASTERS;
            let last = SLOTS * (master + 1) / MASTERS - 1;
            ok(&node.cli(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]));
            // Distinct, so that the nodes need not settle it among themselves.
            ok(&node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(master + 1).to_string()]));
        }
        for node in &nodes[1..] {
            let port = node.address().port().to_string();
            let bus = node.bus().expect("a node has a bus").to_string();
            ok(&nodes[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]));
        }
        let cluster = Self { nodes };
        cluster.await_ok();
        cluster
    }

    /// The URLs of all nodes.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }

    /// The nodes, to look into one or to kill, pause and restart it. The node at index `i` of three
    /// serves the `i`-th third of the slots.
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
            .find_map(|(master, node)| (slot < SLOTS * (master + 1) / MASTERS).then_some(node))
            .expect("the nodes share all slots")
    }

    /// Waits until every node says `cluster_state:ok` and reaches all others: after a
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

fn ok(reply: &str) {
    assert_eq!(reply, "OK");
}
