//! A Redis Cluster: each node has its own connection, so that nothing that happens to one holds up
//! another.
//!
//! The client library's own cluster connection (redis 1.8) is one task for all nodes and does not
//! promise that. While it rediscovers the slots it forwards no answer from any node, and it does so
//! again and again while calls come in for a node that it cannot reach, each time for as long as
//! connecting may take (<https://github.com/redis-rs/redis-rs/issues/2092>). It may also stop for
//! good: tokio grants the lock to a call whose task has spent its budget and so has to wait anyway;
//! discovery waits for that lock, and until then the task polls nothing else. A burst of calls when
//! a node dies is enough. With 1.8.1, and also with fred 10.1, every call for the other nodes' keys
//! timed out for as long as 100 callers kept asking for a dead node's; with 1.8.1 also afterwards.

mod address;
mod discovery;
mod slots;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ::redis::{
    Client, Cmd, ConnectionInfo, ErrorKind, FromRedisValue, RedisError, RedisResult,
    aio::ConnectionManagerConfig,
};

use self::{
    address::{Address, Redirect},
    slots::{SLOTS, slot_of},
};
use super::{
    connection::Sending,
    failure::Failure,
    rediscovery::{Rediscovery, unless_abandoned},
    server::Server,
};

/// How often one call may be redirected. A slot that is moving takes two.
const REDIRECTS: usize = 5;

/// The nodes of a cluster, and which of them serves which slot.
pub(super) struct Cluster {
    /// The settings for connecting to every node; the address is the first one's.
    info: ConnectionInfo,
    config: ConnectionManagerConfig,
    /// The nodes that the user specified, asked if no other answers.
    named: Vec<Address>,
    view: Mutex<View>,
    rediscovery: Rediscovery,
}

struct View {
    nodes: HashMap<Address, Arc<Node>>,
    slots: Box<[Option<Arc<Node>>]>,
}

/// A master.
struct Node {
    address: Address,
    server: Server,
}

/// Where a command is sent.
struct Target {
    node: Arc<Node>,
    /// Whether the slot is moving to the node, which serves it only if asked to.
    asking: bool,
}

impl Cluster {
    /// Connects to the cluster of `nodes`, each with the settings in `info`.
    pub(super) async fn connect(
        info: ConnectionInfo,
        nodes: &[ConnectionInfo],
        config: ConnectionManagerConfig,
    ) -> RedisResult<Self> {
        let named = nodes.iter().map(|node| node.addr().try_into()).collect::<Result<_, _>>()?;
        let slots = vec![None; usize::from(SLOTS)].into();
        let view = Mutex::new(View { nodes: HashMap::new(), slots });
        let cluster = Self { info, config, named, view, rediscovery: Rediscovery::new() };
        cluster.discover(None).await?;
        Ok(cluster)
    }

    /// Sends `command` to the node of its `key`.
    pub(super) async fn send<T: FromRedisValue>(
        self: &Arc<Self>,
        key: &str,
        command: &Cmd,
        sending: Sending,
    ) -> Result<T, Failure> {
        let slot = slot_of(key.as_bytes());
        let mut target = Target { node: self.node_of(slot)?, asking: false };
        let mut redirects = 0..REDIRECTS;
        let mut earlier: Option<Failure> = None;
        loop {
            let error = match self.send_to(&target, command).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // A node that redirects has answered; a lost node may have executed the command.
            let may_repeat = sending == Sending::Again || !error.is_io_error();
            let next = self.next_target(slot, &target.node, &error).filter(|_| may_repeat);
            let failure = Failure::from(error);
            let failure = match &earlier {
                Some(earlier) => failure.after(earlier),
                None => failure,
            };
            match next {
                Some(next) if redirects.next().is_some() => target = next,
                _ => return Err(failure),
            }
            earlier = Some(failure);
        }
    }

    /// Sends `command` to all masters and returns the answers that arrive.
    pub(super) async fn send_to_all<T: FromRedisValue + Send + 'static>(
        &self,
        command: &Cmd,
    ) -> Vec<RedisResult<T>> {
        let nodes: Vec<_> = self.view().nodes.values().cloned().collect();
        let answers = discovery::ask(nodes, command.clone()).join_all().await;
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    async fn send_to<T: FromRedisValue>(
        self: &Arc<Self>,
        target: &Target,
        command: &Cmd,
    ) -> RedisResult<T> {
        let Target { node, asking } = target;
        let call = async {
            if *asking {
                node.server.send_asking(command).await
            } else {
                node.server.send(command).await
            }
        };
        unless_abandoned(call, || self.discover_soon(Some(node))).await
    }

    /// Where to send a command for `slot` after this error from `node`; `None` if the error is
    /// final.
    fn next_target(
        self: &Arc<Self>,
        slot: u16,
        node: &Arc<Node>,
        error: &RedisError,
    ) -> Option<Target> {
        match Redirect::parse(error, &node.address) {
            Some(Redirect::Moved(address)) => {
                let node = self.moved(slot, address).ok()?;
                self.discover_soon(None);
                Some(Target { node, asking: false })
            }
            Some(Redirect::Ask(address)) => {
                Some(Target { node: self.node(address).ok()?, asking: true })
            }
            None if error.is_io_error() || error.is_cluster_error() => {
                self.discover_soon(Some(node));
                // A different node, if someone else has learned in the meantime that the slot has
                // moved.
                let next = self.node_of(slot).ok().filter(|next| !Arc::ptr_eq(next, node))?;
                Some(Target { node: next, asking: false })
            }
            None => None,
        }
    }

    fn node_of(&self, slot: u16) -> RedisResult<Arc<Node>> {
        let view = self.view();
        // A slot without a known node: any node can say who serves it by now.
        let node = view.slots[usize::from(slot)].as_ref().or_else(|| view.nodes.values().next());
        node.cloned().ok_or_else(|| unknown("the cluster has no nodes"))
    }

    /// The node at `address`, new or known.
    fn node(&self, address: Address) -> RedisResult<Arc<Node>> {
        if let Some(node) = self.view().nodes.get(&address) {
            return Ok(Arc::clone(node));
        }
        let node = Arc::new(self.connect_to(address, self.config.clone())?);
        Ok(Arc::clone(self.view().nodes.entry(node.address.clone()).or_insert(node)))
    }

    fn moved(&self, slot: u16, address: Address) -> RedisResult<Arc<Node>> {
        let node = self.node(address)?;
        self.view().slots[usize::from(slot)] = Some(Arc::clone(&node));
        Ok(node)
    }

    fn connect_to(&self, address: Address, config: ConnectionManagerConfig) -> RedisResult<Node> {
        let info = self.info.clone().set_addr(address.reached_as(self.info.addr()));
        let client = Client::open(info)?;
        Ok(Node { address, server: Server::new(client, config)? })
    }

    fn view(&self) -> MutexGuard<'_, View> {
        // Nothing in a critical section panics halfway through a change.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(what: &'static str) -> RedisError {
    (ErrorKind::ClusterConnectionNotFound, what).into()
}
