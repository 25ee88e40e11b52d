//! One Redis server.

use std::path::PathBuf;
use std::process::Command;

use crate::directory::Directory;
use crate::program;
use crate::proxy::Proxy;
use crate::server::{Kind, Server, free_port, lifecycle};

/// A Redis server, empty, that by default keeps nothing on disk.
pub struct Redis(Server<Options>);

struct Options {
    arguments: Vec<String>,
    bus: Option<u16>, // the port of a cluster's node for the other nodes
}

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
        Self::new(arguments, None)
    }

    /// A server in cluster mode that knows no other node yet.
    pub(crate) fn start_node(arguments: &[&str]) -> Self {
        Self::new(arguments, Some(0))
    }

    fn new(arguments: &[&str], bus: Option<u16>) -> Self {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Self(Server::start(Options { arguments, bus }, Directory::new(None), None))
    }

    /// The port on which a node talks with the other nodes.
    pub(crate) fn bus(&self) -> Option<u16> {
        self.0.kind().bus
    }

    /// `redis://127.0.0.1:port`
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// The URL that leads through a proxy to this server.
    #[must_use]
    pub fn url_through(&self, proxy: &Proxy) -> String {
        format!("redis://{}", proxy.address())
    }

    /// What `redis-cli` prints for a command, an error reply included.
    pub fn cli(&self, arguments: &[&str]) -> String {
        cli(self.address().port(), arguments).unwrap_or_else(|error| panic!("{error}"))
    }
}

lifecycle!(Redis);

impl Kind for Options {
    fn choose_ports(&mut self) {
        if let Some(bus) = &mut self.bus {
            *bus = free_port();
        }
    }

    fn program(&self) -> PathBuf {
        program::find("redis-server", "redis-server")
    }

    fn arguments(&self, port: u16, directory: &Directory) -> Vec<String> {
        let directory = directory.path().to_str().expect("the temporary directory's name is UTF-8");
        let own =
            ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir", directory];
        // By default a node's bus is its port + 10000: past 65535 for many a free port.
        let bus = self.bus.map(|bus| {
            ["--cluster-enabled", "yes", "--cluster-port", &bus.to_string()].map(str::to_owned)
        });
        let own = own.map(str::to_owned).into_iter().chain(bus.into_iter().flatten());
        own.chain(self.arguments.iter().cloned()).collect()
    }

    fn serves(&self, id: u32, directory: &Directory) -> bool {
        // Written once it has loaded its data; `M` is for master.
        directory
            .log()
            .lines()
            .any(|line| line.starts_with(&format!("{id}:M ")) && line.contains(" Ready to accept"))
    }
}

fn cli(port: u16, arguments: &[&str]) -> Result<String, String> {
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
