//! A connection pooler in front of a Postgres server.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::directory::Directory;
use crate::postgres::{Postgres, psql, try_psql, url};
use crate::program;
use crate::server::{Kind, Server, lifecycle};
use crate::user::User;

/// When `PgBouncer` takes a server connection back from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// When the client disconnects.
    Session,
    /// After each transaction: session state, such as a prepared statement or `LISTEN`, is lost.
    Transaction,
    /// After each statement: transactions with several are refused.
    Statement,
}

/// A `PgBouncer`. It lets everyone in as `postgres`.
#[derive(Debug)]
pub struct PgBouncer(Server<Options>);

#[derive(Debug)]
struct Options {
    postgres: SocketAddr,
    mode: PoolMode,
    settings: Vec<String>,
}

impl PgBouncer {
    /// A pooler for all databases of `postgres`.
    #[must_use]
    pub fn start(postgres: &Postgres, mode: PoolMode) -> Self {
        Self::start_with(postgres, mode, &[])
    }

    /// A pooler with settings as in `pgbouncer.ini`: `&["default_pool_size = 2"]`.
    #[must_use]
    pub fn start_with(postgres: &Postgres, mode: PoolMode, settings: &[&str]) -> Self {
        let settings = settings.iter().map(ToString::to_string).collect();
        let user = User::unprivileged(); // it refuses to run as root
        Self(Server::start(
            Options { postgres: postgres.address(), mode, settings },
            Directory::new(user),
            user,
        ))
    }

    /// `postgres://postgres@127.0.0.1:port/postgres`
    #[must_use]
    pub fn url(&self) -> String {
        url(&self.address(), "postgres")
    }

    /// What `psql` prints for SQL statements sent through the pooler: one line per row, with `|`
    /// between columns.
    pub fn execute(&self, sql: &str) -> String {
        psql(&self.url(), sql)
    }

    /// Like [`execute`](Self::execute), while the pooler may refuse, which it does for a while
    /// after it could not reach the server.
    ///
    /// # Errors
    ///
    /// Returns an error if a statement fails: what `psql` prints.
    pub fn try_execute(&self, sql: &str) -> Result<String, String> {
        try_psql(&self.url(), sql)
    }

    /// What its admin console prints for a command such as `SHOW POOLS`.
    pub fn admin(&self, command: &str) -> String {
        psql(&url(&self.address(), "pgbouncer"), command)
    }
}

lifecycle!(PgBouncer);

impl Kind for Options {
    const STOP: Option<Signal> = Some(Signal::TERM);

    fn program(&self) -> PathBuf {
        program::find("pgbouncer", "pgbouncer")
    }

    fn arguments(&self, port: u16, directory: &Directory) -> Vec<String> {
        let Self { postgres, mode, settings } = self;
        let configuration = directory.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n\
             * = host={} port={} user=postgres\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = any\n\
             admin_users = postgres\n\
             pool_mode = {mode}\n\
             ignore_startup_parameters = extra_float_digits\n\
             {}\n", // the parameter is sent by common clients
            postgres.ip(),
            postgres.port(),
            settings.join("\n"),
        );
        fs::write(&configuration, text).expect("the server's directory is writable");
        vec![configuration.display().to_string()]
    }

    fn serves(&self, id: u32, directory: &Directory) -> bool {
        // Logged once it listens.
        directory.log().lines().any(|line| line.contains(&format!("[{id}] LOG process up")))
    }
}

impl fmt::Display for PoolMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
            Self::Statement => "statement",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_noticed() {
        PgBouncer::start(&Postgres::start(), PoolMode::Session).0.assert_notices_a_taken_port();
    }
}
