//! Redis Sentinels that watch a server.

use std::fs;
use std::path::PathBuf;

use crate::directory::Directory;
use crate::process::poll;
use crate::program;
use crate::redis::{Redis, cli};
use crate::server::{Kind, Server, lifecycle};

const SENTINELS: usize = 3;

/// Three Sentinels that watch a Redis server and its replica. Two of them that have not heard from
/// the server for half a second put the replica in its place.
#[derive(Debug)]
pub struct RedisSentinels(Vec<RedisSentinel>);

/// One of them.
#[derive(Debug)]
pub struct RedisSentinel(Server<Options>);

#[derive(Debug)]
struct Options {
    watched: u16,
}

impl RedisSentinels {
    /// What they call the server.
    pub const NAME: &str = "mymaster";

    /// Makes `replica` a replica of `primary`, and starts Sentinels that know both and each other.
    #[must_use]
    pub fn watch(primary: &Redis, replica: &Redis) -> Self {
        replica.replicate(primary);
        let start = || RedisSentinel::start(primary.address().port());
        let sentinels = Self((0..SENTINELS).map(|_| start()).collect());
        let know_all = poll(|| sentinels.0.iter().all(RedisSentinel::knows_all).then_some(()));
        assert!(know_all.is_some(), "the Sentinels have not found each other");
        sentinels
    }

    /// The URL of the server for those who ask them: its name is the host.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", Self::NAME)
    }

    /// Their own URLs.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.0.iter().map(|it| format!("redis://{}", it.address())).collect()
    }

    /// Them, to kill or pause one.
    #[must_use]
    pub fn sentinels(&self) -> &[RedisSentinel] {
        &self.0
    }
}

impl RedisSentinel {
    fn start(watched: u16) -> Self {
        Self(Server::start(Options { watched }, Directory::new(None), None))
    }

    /// What `redis-cli` prints for a command, including an error reply.
    pub fn cli(&self, arguments: &[&str]) -> String {
        cli(self.address().port(), arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Waits until it names `server`.
    pub fn await_primary(&self, server: &Redis) {
        let port = server.address().port().to_string();
        let named = poll(|| {
            let told = self.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", RedisSentinels::NAME]);
            (told.lines().last() == Some(&port)).then_some(())
        });
        assert!(named.is_some(), "the Sentinel does not name {}", server.url());
    }

    fn knows_all(&self) -> bool {
        let info = self.cli(&["INFO", "sentinel"]);
        info.contains(&format!("status=ok,address=127.0.0.1:{}", self.0.kind().watched))
            && info.contains(&format!(",slaves=1,sentinels={SENTINELS}"))
    }
}

lifecycle!(RedisSentinel);

impl Kind for Options {
    fn program(&self) -> PathBuf {
        program::find("redis-server", "redis-server")
    }

    fn arguments(&self, port: u16, directory: &Directory) -> Vec<String> {
        let (name, watched) = (RedisSentinels::NAME, self.watched);
        let settings = format!(
            "port {port}
bind 127.0.0.1
sentinel monitor {name} 127.0.0.1 {watched} 2
sentinel down-after-milliseconds {name} 500
sentinel failover-timeout {name} 3000
"
        );
        // A Sentinel writes what it learns into its file.
        let file = directory.path().join("sentinel.conf");
        fs::write(&file, settings).expect("the directory is writable");
        let file = file.to_str().expect("the temporary directory's name is UTF-8");
        vec![file.to_owned(), "--sentinel".to_owned()]
    }

    fn serves(&self, _: u32, directory: &Directory) -> bool {
        directory.log().contains(" +monitor master ")
    }
}
