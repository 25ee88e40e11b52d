//! Real servers for tests: [`Redis`], [`RedisCluster`], [`RedisSentinels`], [`Postgres`],
//! [`PgBouncer`], [`Prometheus`]; [`Certificates`] for those that use TLS; a [`Disk`] for files and one that hangs
//! ([`SlowDisk`]); a TCP [`Proxy`] that makes the network fail; a browser ([`ChromeDriver`]); the
//! location of Python programs ([`python`], [`python_file`]); and a runner for the curl sessions of
//! a README ([`compare_curl_sessions`]).
//!
//! Every server listens on a free port of 127.0.0.1, keeps its files in its own directory, and can
//! be killed, restarted on the same port and files, paused and resumed. It stops when it is
//! dropped. It also stops, and its files are removed, when the test process ends in any other way.
//! So a server may live in a `static` that many tests share, and a killed test leaves nothing
//! behind.
//!
//! Calls block, and panic if a server does not do what it is asked to: that is how a test fails. A
//! missing program is also a failure, never a reason to skip; the message names the Debian package.
//!
//! ```
//! let redis = test_servers::Redis::start();
//! redis.cli(&["SET", "greeting", "hello"]);
//! assert_eq!(redis.cli(&["GET", "greeting"]), "hello");
//! ```
#![expect(
    clippy::missing_panics_doc,
    reason = "every function panics where a server fails; said once, above"
)]

mod certificates;
mod chromium;
mod console;
mod directory;
mod disk;
mod pgbouncer;
mod postgres;
mod process;
mod program;
mod prometheus;
mod proxy;
mod python;
mod redis;
mod redis_cluster;
mod sentinel;
mod server;
mod slow_disk;
mod tap;
mod user;

pub use certificates::Certificates;
pub use chromium::ChromeDriver;
pub use console::compare_curl_sessions;
pub use disk::Disk;
pub use pgbouncer::{PgBouncer, PoolMode};
pub use postgres::Postgres;
pub use prometheus::{Prometheus, test_rules};
pub use proxy::{Fault, Proxy};
pub use python::{python, python_file};
pub use redis::Redis;
pub use redis_cluster::RedisCluster;
pub use sentinel::{RedisSentinel, RedisSentinels};
pub use slow_disk::SlowDisk;
pub use tap::{Hold, Way};
