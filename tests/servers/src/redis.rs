//! One Redis server.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use crate::certificates::Certificates;
use crate::directory::Directory;
use crate::process::poll;
use crate::program;
use crate::proxy::Proxy;
use crate::server::{Kind, Server, free_port, lifecycle};

/// A Redis server, initially empty, that by default keeps nothing on disk.
#[derive(Debug)]
pub struct Redis(Server<Options>);

#[derive(Debug)]
struct Options {
    arguments: Vec<String>,
    in_cluster: bool,
    tls_port: Option<u16>,
}

/// The offset from the port of a cluster node to the port on which it talks to the others.
const BUS: u16 = 10_000;

impl Redis {
    /// A server with Redis's defaults, without snapshots.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A server with further arguments: `&["--maxmemory", "4mb", "--maxmemory-policy",
    /// "noeviction"]`, or `&["--appendonly", "yes"]` for one whose data survives
    /// [`restart`](Self::restart).
    #[must_use]
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::new(arguments, false, None)
    }

    /// A server that also accepts TLS, with these certificates. It does not ask clients for theirs.
    #[must_use]
    pub fn start_tls(certificates: &Certificates) -> Self {
        Self::new(&[], false, Some(certificates))
    }

    /// A server in cluster mode that knows no other node yet. With certificates it also accepts
    /// TLS, and uses nothing else with the other nodes.
    pub(crate) fn start_node(arguments: &[&str], certificates: Option<&Certificates>) -> Self {
        Self::new(arguments, true, certificates)
    }

    fn new(arguments: &[&str], in_cluster: bool, certificates: Option<&Certificates>) -> Self {
        let path = |path: PathBuf| path.to_str().expect("the name is UTF-8").to_owned();
        let tls = certificates.into_iter().flat_map(|certificates| {
            [
                ["--tls-cert-file".to_owned(), path(certificates.certificate())],
                ["--tls-key-file".to_owned(), path(certificates.key())],
                ["--tls-ca-cert-file".to_owned(), path(certificates.authority())],
                ["--tls-auth-clients".to_owned(), "no".to_owned()],
            ]
        });
        let arguments = arguments.iter().map(ToString::to_string).chain(tls.flatten()).collect();
        let options = Options { arguments, in_cluster, tls_port: certificates.map(|_| 0) };
        Self(Server::start(options, Directory::new(None), None))
    }

    /// The port for clients with TLS, if it accepts TLS.
    pub(crate) fn tls_port(&self) -> Option<u16> {
        self.0.kind().tls_port
    }

    /// `redis://127.0.0.1:port`
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// `rediss://127.0.0.1:port`, of a server that was started with certificates.
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.tls_port().expect("it speaks TLS"))
    }

    /// The URL that goes through a proxy to this server.
    #[must_use]
    pub fn url_through(&self, proxy: &Proxy) -> String {
        format!("redis://{}", proxy.address())
    }

    /// Makes it a replica of `primary`, with all of its data.
    pub fn replicate(&self, primary: &Self) {
        let port = primary.address().port().to_string();
        assert_eq!(self.cli(&["REPLICAOF", "127.0.0.1", &port]), "OK");
        assert!(self.is_linked_in_time(), "{} does not replicate", self.url());
    }

    /// Whether it gets to have all that its primary has.
    pub(crate) fn is_linked_in_time(&self) -> bool {
        let linked = poll(|| {
            let info = self.cli(&["INFO", "replication"]);
            info.lines().any(|line| line.trim_end() == "master_link_status:up").then_some(())
        });
        linked.is_some()
    }

    /// What `redis-cli` prints for a command, including an error reply.
    pub fn cli(&self, arguments: &[&str]) -> String {
        cli(self.address().port(), arguments).unwrap_or_else(|error| panic!("{error}"))
    }
}

lifecycle!(Redis);

impl Kind for Options {
    fn choose_port(&mut self) -> u16 {
        let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        let choose = || loop {
            let port = free_port();
            if !self.in_cluster || port.checked_add(BUS).is_some_and(is_free) {
                return port;
            }
        };
        self.tls_port = self.tls_port.map(|_| choose());
        choose()
    }

    fn program(&self) -> PathBuf {
        program::find("redis-server", "redis-server")
    }

    fn arguments(&self, port: u16, directory: &Directory) -> Vec<String> {
        let directory = directory.path().to_str().expect("the temporary directory's name is UTF-8");
        let own =
            ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir", directory];
        let tls = self.tls_port.map(|port| ["--tls-port".to_owned(), port.to_string()]);
        let cluster = self.in_cluster.then_some(["--cluster-enabled", "yes"]);
        let both = (self.in_cluster && tls.is_some()).then_some(["--tls-cluster", "yes"]);
        let modes = cluster.into_iter().chain(both).flatten().map(str::to_owned);
        let own = own.map(str::to_owned).into_iter().chain(tls.into_iter().flatten()).chain(modes);
        own.chain(self.arguments.iter().cloned()).collect()
    }

    fn serves(&self, id: u32, directory: &Directory) -> bool {
        // Logged once it has loaded its data; `M` is for master.
        directory
            .log()
            .lines()
            .any(|line| line.starts_with(&format!("{id}:M ")) && line.contains(" Ready to accept"))
    }
}

/// What `redis-cli` prints for a command to the server on `port`.
pub(crate) fn cli(port: u16, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program::find("redis-cli", "redis-tools"));
    program::output(command.args(["-h", "127.0.0.1", "-p", &port.to_string()]).args(arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_noticed() {
        Redis::start().0.assert_notices_a_taken_port();
    }
}
