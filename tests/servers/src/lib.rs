//! Real servers for tests: [`Redis`], [`RedisCluster`], [`Postgres`], [`PgBouncer`], [`Prometheus`],
//! [`Certificates`] for those that speak TLS, and a TCP [`Proxy`] that makes the way to them fail;
//! where programs written in Python are ([`python`]); and the curl sessions of a README
//! ([`compare_curl_sessions`]).
//!
//! Every server listens on a free port of 127.0.0.1, keeps its files in a directory of its own, and
//! can be killed, restarted on the same port and files, paused and resumed. It stops when it is
//! dropped. It also stops, and its files go, when the test process ends in any other way, so a
//! server may live in a `static` that many tests share, and a test that is killed leaves nothing
//! behind.
//!
//! Calls block, and panic when a server does not do what it is asked: that is how a test fails. A
//! missing program is such a failure too, never a reason to skip; the message names the Debian
//! package.
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
mod console;
mod directory;
mod pgbouncer;
mod postgres;
mod process;
mod program;
mod prometheus;
mod proxy;
mod python;
mod redis;
mod redis_cluster;
mod server;
mod tap;
mod user;

pub use certificates::Certificates;
pub use console::compare_curl_sessions;
pub use pgbouncer::{PgBouncer, PoolMode};
pub use postgres::Postgres;
pub use prometheus::{Prometheus, test_rules};
pub use proxy::{Fault, Proxy};
pub use python::python;
pub use redis::Redis;
pub use redis_cluster::RedisCluster;
pub use tap::{Hold, Way};
