//! A Redis Cluster: each node has a connection of its own, so that nothing that happens to one
//! holds up another.
//!
//! The client library's own cluster connection (redis 1.8) is one task for all nodes and keeps no
//! such promise. While it learns the slots anew it passes on no answer of any node, and it does so
//! again and again while calls come for a node that it cannot reach, each time for as long as
//! connecting may take (<https://github.com/redis-rs/redis-rs/issues/2092>). It may also stop for
//! good: tokio's lock is given to a call that then, its task's budget being spent, has to wait
//! nevertheless; learning the slots waits for that lock, and until then the task polls nothing else.
//! A burst of calls when a node dies is enough.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ::redis::{
    Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue, RedisError,
    RedisResult, ServerErrorKind, Value, aio::ConnectionManagerConfig,
};
use tokio::{runtime::Handle, task::JoinSet, time::timeout};

use super::connection::Replaceable;

const SLOTS: usize = 16_384;
/// How often one call is sent on to another node. A slot that moves takes two.
const REDIRECTS: usize = 5;
/// The limit of a question about the cluster itself, which no caller's limit ends.
const QUESTION_LIMIT: Duration = Duration::from_secs(1);
/// The limit to how often a cluster is looked at anew while a node stays away.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The nodes of a cluster, and which of them serves a slot.
pub(super) struct Cluster {
    /// How all nodes are connected to; the address is the first one's.
    info: ConnectionInfo,
    config: ConnectionManagerConfig,
    /// The nodes that the user named, asked where no other answers.
    named: Vec<Address>,
    view: Mutex<View>,
}

struct View {
    nodes: HashMap<Address, Arc<Node>>,
    slots: Box<[Option<Arc<Node>>]>,
    /// When looking at the cluster last began.
    since: Instant,
}

/// A master.
struct Node {
    address: Address,
    connection: Replaceable,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Address {
    host: String,
    port: u16,
}

impl Cluster {
    pub(super) async fn connect(
        nodes: Vec<ConnectionInfo>,
        config: ConnectionManagerConfig,
    ) -> RedisResult<Self> {
        let named = nodes.iter().map(|node| Address::of(node.addr())).collect::<Result<_, _>>()?;
        let Some(info) = nodes.into_iter().next() else {
            return Err((ErrorKind::InvalidClientConfig, "no node of the cluster is named").into());
        };
        let slots = vec![None; SLOTS].into();
        let view = Mutex::new(View { nodes: HashMap::new(), slots, since: Instant::now() });
        let cluster = Self { info, config, named, view };
        cluster.look(None).await?;
        Ok(cluster)
    }

    /// Sends `command` to the node of its `key`.
    pub(super) async fn send<T: FromRedisValue>(
        self: &Arc<Self>,
        key: &str,
        command: &Cmd,
    ) -> RedisResult<T> {
        let slot = slot(key.as_bytes());
        let mut node = self.node_of(slot)?;
        let mut asking = false;
        let mut redirects = 0..REDIRECTS;
        loop {
            let given_up = GivenUp { cluster: self, node: &node };
            let result = if asking {
                node.connection.send_asking(command).await
            } else {
                node.connection.send(command).await
            };
            std::mem::forget(given_up);
            let Err(error) = &result else { return result };
            let next = match Redirect::of(error, &node.address) {
                Some(Redirect::Moved(address)) => {
                    let next = self.moved(slot, address)?;
                    self.look_soon(None);
                    asking = false;
                    next
                }
                Some(Redirect::Ask(address)) => {
                    asking = true;
                    self.node(address)?
                }
                None => {
                    if !error.is_io_error() && !error.is_cluster_error() {
                        return result;
                    }
                    self.look_soon(Some(&node));
                    asking = false;
                    let next = self.node_of(slot)?;
                    if Arc::ptr_eq(&next, &node) {
                        return result;
                    }
                    next // somebody else has learned that the slot has moved
                }
            };
            if redirects.next().is_none() {
                return result;
            }
            node = next;
        }
    }

    /// Sends `command` to all masters and gives the answers that come.
    pub(super) async fn send_to_all<T: FromRedisValue + Send + 'static>(
        &self,
        command: &Cmd,
    ) -> Vec<RedisResult<T>> {
        let nodes: Vec<_> = self.view().nodes.values().cloned().collect();
        ask(nodes, command.clone()).join_all().await.into_iter().map(|(_, answer)| answer).collect()
    }

    fn node_of(&self, slot: u16) -> RedisResult<Arc<Node>> {
        let view = self.view();
        // A slot of nobody's: any node says whose it is by now.
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
        Ok(Node { address, connection: Replaceable::new(client, config)? })
    }

    /// Looks at the cluster anew, in the background: the slots of `suspect` may have another node.
    fn look_soon(self: &Arc<Self>, suspect: Option<&Arc<Node>>) {
        let mut view = self.view();
        if view.since.elapsed() < LOOK_EVERY {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        view.since = Instant::now();
        drop(view);
        let (this, suspect) = (Arc::clone(self), suspect.cloned());
        runtime.spawn(async move {
            if let Err(error) = this.look(suspect.as_deref()).await {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "no node tells the slots of the cluster"
                );
            }
        });
    }

    /// Asks all nodes but `suspect`, which may have missed what became of it, and takes the first
    /// answer.
    async fn look(&self, suspect: Option<&Node>) -> RedisResult<()> {
        let known = self.view().nodes.values().cloned().collect::<Vec<_>>();
        let others = known
            .into_iter()
            .filter(|node| suspect.is_none_or(|suspect| suspect.address != node.address));
        if let Ok(ranges) = first_ranges(others.collect()).await {
            return self.learn(ranges);
        }
        // Once, so that what will not go away is said at once, a refused certificate say.
        let once = self.config.clone().set_number_of_retries(0);
        let connect = |address: &Address| self.connect_to(address.clone(), once.clone());
        let named = self.named.iter().map(|address| connect(address).map(Arc::new));
        self.learn(first_ranges(named.collect::<Result<_, _>>()?).await?)
    }

    fn learn(&self, ranges: Vec<Range>) -> RedisResult<()> {
        let (mut nodes, mut slots) = (HashMap::new(), vec![None; SLOTS]);
        for Range { first, last, address } in ranges {
            let node = self.node(address)?;
            slots[usize::from(first)..=usize::from(last)].fill(Some(Arc::clone(&node)));
            nodes.insert(node.address.clone(), node);
        }
        let mut view = self.view();
        view.nodes = nodes;
        view.slots = slots.into();
        Ok(())
    }

    fn view(&self) -> MutexGuard<'_, View> {
        // Nothing in a critical section panics half way through a change.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Dropped where a call did not come to its end: its node may be gone, and another in its place.
struct GivenUp<'a> {
    cluster: &'a Arc<Cluster>,
    node: &'a Arc<Node>,
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.cluster.look_soon(Some(self.node));
    }
}

/// Sends `command` to all `nodes` at once.
fn ask<T: FromRedisValue + Send + 'static>(
    nodes: Vec<Arc<Node>>,
    command: Cmd,
) -> JoinSet<(Arc<Node>, RedisResult<T>)> {
    let command = Arc::new(command);
    let ask = |node: Arc<Node>| {
        let command = Arc::clone(&command);
        async move {
            let answer = timeout(QUESTION_LIMIT, node.connection.send(&command)).await;
            let answer = answer.unwrap_or_else(|elapsed| Err(std::io::Error::from(elapsed).into()));
            (node, answer)
        }
    };
    nodes.into_iter().map(ask).collect()
}

async fn first_ranges(nodes: Vec<Arc<Node>>) -> RedisResult<Vec<Range>> {
    let mut command = ::redis::cmd("CLUSTER");
    command.arg("SLOTS");
    let mut answers = ask::<Value>(nodes, command);
    let mut failure = unknown("no node of the cluster is known");
    while let Some(answer) = answers.join_next().await {
        // One that panicked is one that did not answer.
        let Ok((node, answer)) = answer else { continue };
        match answer.map(|answer| Range::parse(answer, &node.address)) {
            Ok(ranges) if ranges.is_empty() => failure = unknown("the cluster serves no slots"),
            Ok(ranges) => return Ok(ranges),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn unknown(what: &'static str) -> RedisError {
    (ErrorKind::ClusterConnectionNotFound, what).into()
}

/// Slots that one node serves.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    address: Address,
}

impl Range {
    /// Reads what `node` answers to `CLUSTER SLOTS`: for each range its first and last slot, its
    /// master, its replicas. A node is an address, a port and more.
    fn parse(answer: Value, node: &Address) -> Vec<Self> {
        let Value::Array(ranges) = answer else { return Vec::new() };
        let range = |range: Value| {
            let Value::Array(range) = range else { return None };
            let [first, last, Value::Array(master), ..] = range.as_slice() else { return None };
            let [host, port, ..] = master.as_slice() else { return None };
            let slot = |slot| u16::from_redis_value_ref(slot).ok().filter(|&slot| slot < 16_384);
            let host = Option::<String>::from_redis_value_ref(host).ok()?.unwrap_or_default();
            if host == "?" {
                return None; // the node does not know it
            }
            let address = Address::new(&host, u16::from_redis_value_ref(port).ok()?, node);
            let (first, last) = (slot(first)?, slot(last)?);
            (first <= last).then_some(Self { first, last, address })
        };
        ranges.into_iter().filter_map(range).collect()
    }
}

/// Where a node sends a call on to.
#[derive(Debug, PartialEq, Eq)]
enum Redirect {
    /// From now on.
    Moved(Address),
    /// This time: the slot is moving.
    Ask(Address),
}

impl Redirect {
    fn of(error: &RedisError, node: &Address) -> Option<Self> {
        let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
        let address = Address::new(host, port.parse().ok()?, node);
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::Ask) => Some(Self::Ask(address)),
            _ => Some(Self::Moved(address)),
        }
    }
}

impl Address {
    /// A node that `told` has named. One that names no host means its own.
    fn new(host: &str, port: u16, told: &Self) -> Self {
        let host = if host.is_empty() { &told.host } else { host };
        Self { host: host.to_owned(), port }
    }

    fn of(addr: &ConnectionAddr) -> RedisResult<Self> {
        match addr {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Ok(Self { host: host.clone(), port: *port })
            }
            _ => {
                Err((ErrorKind::InvalidClientConfig, "a node of a cluster is a host and a port")
                    .into())
            }
        }
    }

    /// The same with the TLS of `addr`.
    fn reached_as(&self, addr: &ConnectionAddr) -> ConnectionAddr {
        let (host, port) = (self.host.clone(), self.port);
        match addr {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                let (insecure, tls_params) = (*insecure, tls_params.clone());
                ConnectionAddr::TcpTls { host, port, insecure, tls_params }
            }
            _ => ConnectionAddr::Tcp(host, port),
        }
    }
}

/// The slot of `key`, of whose first part in braces alone where it has one.
///
/// <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model>
fn slot(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|&byte| byte == b'{')? + 1;
        let length = key[open..].iter().position(|&byte| byte == b'}')?;
        (length > 0).then(|| &key[open..open + length])
    };
    // CRC-16/XMODEM
    let crc = tag().unwrap_or(key).iter().fold(0_u16, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % 16_384
}

#[cfg(test)]
mod tests {
    use ::redis::{IntoConnectionInfo as _, cluster_routing::Slot, parse_redis_value};

    use super::*;

    fn address(host: &str, port: u16) -> Address {
        Address { host: host.into(), port }
    }

    #[test]
    fn slots_are_the_clients() {
        for key in ["", "123456789", "{", "a{}b", "a{b", "{shop}:1", "}{shop}x{y}", "a{{b}}c"] {
            assert_eq!(Slot::new(slot(key.as_bytes())), Some(Slot::for_key(key)), "{key}");
        }
        assert_eq!(slot(b"123456789"), 0x31c3);
    }

    #[test]
    fn ranges_are_read_and_what_is_no_range_is_left_out() {
        let told = address("told", 1);
        let answer = b"*6\r\n\
            *4\r\n:0\r\n:99\r\n*2\r\n$4\r\nhost\r\n:7000\r\n*2\r\n$7\r\nreplica\r\n:7001\r\n\
            *3\r\n:100\r\n:100\r\n*3\r\n$-1\r\n:7002\r\n$2\r\nid\r\n\
            *3\r\n:101\r\n:16383\r\n*2\r\n$0\r\n\r\n:7003\r\n\
            *3\r\n:0\r\n:16384\r\n*2\r\n$4\r\nhost\r\n:7004\r\n\
            *3\r\n:9\r\n:8\r\n*2\r\n$4\r\nhost\r\n:7004\r\n\
            *3\r\n:0\r\n:16383\r\n*2\r\n$1\r\n?\r\n:7005\r\n";
        let ranges = Range::parse(parse_redis_value(answer).unwrap(), &told);
        let expected = [
            Range { first: 0, last: 99, address: address("host", 7000) },
            Range { first: 100, last: 100, address: address("told", 7002) },
            Range { first: 101, last: 16383, address: address("told", 7003) },
        ];
        assert_eq!(ranges, expected);
        assert_eq!(Range::parse(Value::Okay, &told), []);
    }

    #[test]
    fn nodes_are_reached_with_the_tls_of_the_named_one() {
        let reached = |url: &str| {
            let info = url.into_connection_info().unwrap();
            address("node", 7).reached_as(info.addr())
        };
        assert_eq!(reached("redis://named:1"), ConnectionAddr::Tcp("node".into(), 7));
        let (host, port, insecure) = ("node".into(), 7, false);
        let tls = ConnectionAddr::TcpTls { host, port, insecure, tls_params: None };
        assert_eq!(reached("rediss://named:1"), tls);
    }

    #[test]
    fn redirects_name_a_node() {
        let told = address("told", 1);
        let redirect = |error: &str| {
            let answer = parse_redis_value(format!("-{error}\r\n").as_bytes()).unwrap();
            Redirect::of(&answer.extract_error().unwrap_err(), &told)
        };
        let moved = |host, port| Some(Redirect::Moved(address(host, port)));
        assert_eq!(redirect("MOVED 3999 127.0.0.1:6381"), moved("127.0.0.1", 6381));
        assert_eq!(redirect("MOVED 3999 ::1:6381"), moved("::1", 6381));
        assert_eq!(redirect("MOVED 3999 :6381"), moved("told", 6381));
        assert_eq!(redirect("ASK 3999 a:6381"), Some(Redirect::Ask(address("a", 6381))));
        assert_eq!(redirect("MOVED 3999"), None);
        assert_eq!(redirect("CLUSTERDOWN Hash slot not served"), None);
    }
}
