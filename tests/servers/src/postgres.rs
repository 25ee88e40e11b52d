//! One Postgres server.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use rustix::process::Signal;

use crate::certificates::Certificates;
use crate::directory::Directory;
use crate::program;
use crate::proxy::Proxy;
use crate::server::{Kind, Server, lifecycle};
use crate::user::User;

/// A Postgres server with one superuser `postgres`, who needs no password, and the database
/// `postgres`.
#[derive(Debug)]
pub struct Postgres(Server<Options>);

#[derive(Debug)]
struct Options {
    settings: Vec<String>,
}

impl Postgres {
    /// A server that does not wait for the disk (`fsync=off`): what it has committed survives
    /// [`kill`](Self::kill), but would not survive a power cut.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A server with settings as in `postgresql.conf`: `&["fsync=on", "max_connections=20"]`.
    #[must_use]
    pub fn start_with(settings: &[&str]) -> Self {
        Self::start_in(Directory::new(User::unprivileged()), settings)
    }

    /// A server with all its data, tables and write-ahead log, on its own small disk (a filesystem
    /// in memory), which [`fill_disk`](Self::fill_disk) fills. Requires permission to mount.
    #[must_use]
    pub fn start_on_small_disk(settings: &[&str]) -> Self {
        let user = User::unprivileged();
        let directory = Directory::new(user);
        directory.mount("data", DISK, user);
        Self::start_in(directory, settings)
    }

    fn start_in(directory: Directory, settings: &[&str]) -> Self {
        // `cp` keeps the owner and the modes, which Postgres insists on.
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(data(&TEMPLATE)).arg(directory.path());
        program::output(&mut copy).unwrap_or_else(|error| panic!("{error}"));
        let settings = settings.iter().map(ToString::to_string).collect();
        Self(Server::start(Options { settings }, directory, User::unprivileged()))
    }

    /// Fills the disk of a server [on a small one](Self::start_on_small_disk): from now on no file
    /// can grow or be created.
    pub fn fill_disk(&self) {
        self.0.directory().fill();
    }

    /// Undoes [`fill_disk`](Self::fill_disk). A server that has [ended](Self::await_end) because
    /// the disk was full stays down until a [`restart`](Self::restart).
    pub fn free_disk(&self) {
        self.0.directory().free();
    }

    /// A server that also accepts TLS, with these certificates.
    #[must_use]
    pub fn start_tls(certificates: &Certificates) -> Self {
        let certificate = format!("ssl_cert_file={}", certificates.certificate().display());
        let key = format!("ssl_key_file={}", certificates.key().display());
        Self::start_with(&["ssl=on", &certificate, &key])
    }

    /// A hot standby of this server: it replicates, and only serves reads until
    /// `SELECT pg_promote()`.
    #[must_use]
    pub fn standby(&self) -> Self {
        let user = User::unprivileged();
        let directory = Directory::new(user);
        let mut backup = Command::new(program::find("pg_basebackup", "postgresql"));
        backup.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--dbname"]);
        backup.arg(self.url()).arg("--pgdata").arg(data(&directory)).current_dir(directory.path());
        if let Some(user) = user {
            user.run(&mut backup);
        }
        program::output(&mut backup).unwrap_or_else(|error| panic!("{error}"));
        Self(Server::start(Options { settings: Vec::new() }, directory, user))
    }

    /// `postgres://postgres@127.0.0.1:port/postgres`
    #[must_use]
    pub fn url(&self) -> String {
        url(&self.address(), "postgres")
    }

    /// The URL that goes through a proxy to this server.
    #[must_use]
    pub fn url_through(&self, proxy: &Proxy) -> String {
        url(&proxy.address(), "postgres")
    }

    /// Its log since it was started.
    #[must_use]
    pub fn log(&self) -> String {
        self.0.directory().log()
    }

    /// The directory of its Unix socket.
    #[must_use]
    pub fn socket_directory(&self) -> &Path {
        self.0.directory().path()
    }

    /// What `psql` prints for SQL statements, in one transaction: one line per row, with `|`
    /// between columns.
    pub fn execute(&self, sql: &str) -> String {
        self.try_execute(sql).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Like [`execute`](Self::execute), for statements that may fail.
    ///
    /// # Errors
    ///
    /// Returns an error if a statement fails: what `psql` prints.
    pub fn try_execute(&self, sql: &str) -> Result<String, String> {
        try_psql(&self.url(), sql)
    }
}

lifecycle!(Postgres);

/// Twice what a new server takes.
const DISK: u64 = 80 << 20;

/// `initdb` takes longer than everything else, so it runs once per process, and is then copied.
static TEMPLATE: LazyLock<Directory> = LazyLock::new(|| {
    let user = User::unprivileged();
    let directory = Directory::new(user);
    let mut initdb = Command::new(program::find("initdb", "postgresql"));
    initdb.args([
        "--username=postgres",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
        "--pgdata",
    ]);
    initdb.arg(data(&directory)).current_dir(directory.path());
    if let Some(user) = user {
        user.run(&mut initdb);
    }
    program::output(&mut initdb).unwrap_or_else(|error| panic!("{error}"));
    directory
});

fn data(directory: &Directory) -> PathBuf {
    directory.path().join("data")
}

impl Kind for Options {
    // Immediate shutdown: no checkpoint, but the shared memory is returned to the system.
    const STOP: Option<Signal> = Some(Signal::QUIT);

    fn program(&self) -> PathBuf {
        program::find("postgres", "postgresql")
    }

    fn arguments(&self, port: u16, directory: &Directory) -> Vec<String> {
        let own = [
            "fsync=off".to_owned(),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            format!("unix_socket_directories={}", directory.path().display()),
        ];
        let settings =
            own.iter().chain(&self.settings).flat_map(|setting| ["-c".to_owned(), setting.clone()]);
        ["-D".to_owned(), data(directory).display().to_string()]
            .into_iter()
            .chain(settings)
            .collect()
    }

    fn serves(&self, id: u32, directory: &Directory) -> bool {
        // The first line is the server's process id, the eighth its state.
        fs::read_to_string(data(directory).join("postmaster.pid")).is_ok_and(|file| {
            let mut lines = file.lines().map(str::trim);
            lines.next() == Some(&id.to_string()) && lines.nth(6) == Some("ready")
        })
    }
}

pub(crate) fn url(address: &SocketAddr, database: &str) -> String {
    format!("postgres://postgres@{address}/{database}")
}

pub(crate) fn psql(url: &str, sql: &str) -> String {
    try_psql(url, sql).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn try_psql(url: &str, sql: &str) -> Result<String, String> {
    let mut command = Command::new(program::find("psql", "postgresql-client"));
    command.args([
        "--no-psqlrc",
        "--quiet",
        "--no-align",
        "--tuples-only",
        "--set=ON_ERROR_STOP=1",
    ]);
    program::output(command.args(["--dbname", url, "--command", sql]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_noticed() {
        Postgres::start().0.assert_notices_a_taken_port();
    }
}
