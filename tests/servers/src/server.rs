//! What all servers have in common: a port, a directory, a process that comes and goes.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::Signal;

use crate::directory::Directory;
use crate::process::{Process, poll};
use crate::user::User;

/// How to start one kind of server.
pub(crate) trait Kind {
    /// The program's path.
    fn program(&self) -> PathBuf;

    /// Its arguments.
    fn arguments(&self, port: u16, directory: &Directory) -> Vec<String>;

    /// Whether the server that runs as process `id` is serving, judged by its output: another
    /// server may have its port.
    fn serves(&self, id: u32, directory: &Directory) -> bool;

    /// The signal that ends it at once but cleanly, if SIGKILL would leave something behind.
    const STOP: Option<Signal> = None;

    /// Chooses a port that may be free, and any others it needs. Called before each attempt.
    fn choose_port(&mut self) -> u16 {
        free_port()
    }
}

/// A server of one kind, behind the public type of that kind.
#[derive(Debug)]
pub(crate) struct Server<K: Kind> {
    kind: K,
    port: u16,
    user: Option<User>,
    process: Mutex<Option<Process>>,
    directory: Directory, // after the process: removed when it has ended
}

/// Why a server did not come up.
enum Fault {
    PortInUse,
    Other(String),
}

impl<K: Kind> Server<K> {
    /// Starts it on a free port. If another process takes the port before the server does, another
    /// port is chosen.
    pub(crate) fn start(kind: K, directory: Directory, user: Option<User>) -> Self {
        let mut server = Self { kind, port: 0, user, process: Mutex::new(None), directory };
        for _ in 0..20 {
            server.port = server.kind.choose_port();
            match server.launch() {
                Ok(()) => return server,
                Err(Fault::PortInUse) => {}
                Err(Fault::Other(message)) => panic!("{message}"),
            }
        }
        panic!("no free port in 20 tries");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(crate) fn kind(&self) -> &K {
        &self.kind
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(crate) fn kill(&self) {
        if let Some(mut process) = self.process().take() {
            process.kill();
        }
    }

    /// Kills it if it runs, and starts it on the same port and files.
    pub(crate) fn restart(&self) {
        self.kill();
        let started = poll(|| match self.launch() {
            Err(Fault::PortInUse) => None, // for as long as someone's outgoing connection has it
            result => Some(result),
        });
        match started {
            Some(Ok(())) => {}
            Some(Err(Fault::Other(message))) => panic!("{message}"),
            Some(Err(Fault::PortInUse)) | None => panic!("port {} is taken", self.port),
        }
    }

    pub(crate) fn pause(&self) {
        self.process().as_mut().expect("a server that is paused runs").pause();
    }

    pub(crate) fn resume(&self) {
        self.process().as_mut().expect("a server that is resumed runs").resume();
    }

    pub(crate) fn await_end(&self) {
        let ended =
            poll(|| self.process().as_mut().is_none_or(|it| it.exited().is_some()).then_some(()));
        assert!(ended.is_some(), "the server has not ended\n{}", self.directory.log());
    }

    fn launch(&self) -> Result<(), Fault> {
        let program = self.kind.program();
        let arguments = self.kind.arguments(self.port, &self.directory);
        let mut process = Process::start(&program, &arguments, &self.directory, self.user);
        let serves = poll(|| match process.exited() {
            Some(status) => Some(Err(status.to_string())),
            None => self.kind.serves(process.id(), &self.directory).then_some(Ok(())),
        });
        let reason = match serves {
            Some(Ok(())) => {
                *self.process() = Some(process);
                return Ok(());
            }
            Some(Err(status)) => status,
            None => "does not serve in time".to_owned(),
        };
        let log = self.directory.log();
        // The text of EADDRINUSE in the C library, and in Go, which writes it in lower case.
        if log.to_lowercase().contains("address already in use") {
            return Err(Fault::PortInUse);
        }
        Err(Fault::Other(format!("{} {arguments:?}: {reason}\n{log}", program.display())))
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        // A failed test leaves the process as it is; the lock protects nothing else.
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Kind> Drop for Server<K> {
    fn drop(&mut self) {
        if let (Some(mut process), Some(stop)) = (self.process().take(), K::STOP) {
            process.resume(); // or the signal would wait
            process.signal(stop);
            poll(|| process.exited());
        }
    }
}

/// The public methods that every server has.
macro_rules! lifecycle {
    ($server:ident) => {
        impl $server {
            /// The address it listens on.
            #[must_use]
            pub fn address(&self) -> std::net::SocketAddr {
                self.0.address()
            }

            /// SIGKILL to all its processes. Returns when they are dead; does nothing if they
            /// already were.
            pub fn kill(&self) {
                self.0.kill();
            }

            /// Starts it again on the same port and directory, after a [`kill`](Self::kill) if it
            /// is still running.
            pub fn restart(&self) {
                self.0.restart();
            }

            /// Waits until it has ended without being told to.
            pub fn await_end(&self) {
                self.0.await_end();
            }

            /// SIGSTOP to all its processes: connections stay open and the system accepts new ones,
            /// but nothing answers.
            pub fn pause(&self) {
                self.0.pause();
            }

            /// SIGCONT to all its processes: it continues as if nothing had happened.
            pub fn resume(&self) {
                self.0.resume();
            }
        }
    };
}
pub(crate) use lifecycle;

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("the loopback interface has a free port")
        .port()
}

#[cfg(test)]
impl<K: Kind> Server<K> {
    /// Asserts that it can tell a taken port from any other reason not to start.
    pub(crate) fn assert_notices_a_taken_port(&self) {
        self.kill();
        let taken = TcpListener::bind(self.address()).expect("the server has left its port");
        assert!(matches!(self.launch(), Err(Fault::PortInUse)));
        drop(taken);
        assert!(self.launch().is_ok());
    }
}
