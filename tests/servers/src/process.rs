//! A child process that dies with this one, and signals to it and its children.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::directory::Directory;
use crate::program;
use crate::user::User;

/// How long a server may take to start, to answer or to stop before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Asks until there is an answer: servers can be asked for their state but do not announce it.
pub(crate) fn poll<T>(mut question: impl FnMut() -> Option<T>) -> Option<T> {
    let asked = Instant::now();
    loop {
        if let Some(answer) = question() {
            return Some(answer);
        }
        if asked.elapsed() > PATIENCE {
            return None;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// A running server. Killed on drop.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts `program` in its directory, with both outputs going to a new log.
    pub(crate) fn start(
        program: &Path,
        arguments: &[String],
        directory: &Directory,
        user: Option<User>,
    ) -> Self {
        let log = directory.create_log();
        // The kernel clears the death signal when the user changes, so `setpriv` sets it after
        // that, then becomes the server.
        let mut command = Command::new(program::find("setpriv", "util-linux"));
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(arguments);
        let errors = log.try_clone().expect("a file can be shared");
        command.stdin(Stdio::null()).stdout(log).stderr(errors).current_dir(directory.path());
        command.process_group(0); // Ctrl-C reaches the tests only
        if let Some(user) = user {
            user.run(&mut command);
        }
        let child = spawn(command)
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        Self { child }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Sends a signal to the process alone.
    pub(crate) fn signal(&mut self, signal: Signal) {
        // Once a child has been waited for, its id may be another process's.
        if self.exited().is_none() {
            send(self.id(), signal);
        }
    }

    /// SIGSTOP to the process and its children; returns when all have stopped.
    pub(crate) fn pause(&mut self) {
        let children = self.freeze();
        for &child in &children {
            send(child, Signal::STOP);
        }
        let stopped = poll(|| children.iter().all(|&child| halted(child)).then_some(()));
        assert!(stopped.is_some(), "processes {children:?} do not stop");
    }

    /// SIGCONT to the process and its children.
    pub(crate) fn resume(&mut self) {
        if self.exited().is_none() {
            let all = children(self.id()).into_iter().chain([self.id()]);
            all.for_each(|id| send(id, Signal::CONT));
        }
    }

    /// SIGKILL to the process and its children; returns when none of them runs any more.
    pub(crate) fn kill(&mut self) {
        let children = self.freeze();
        for &child in &children {
            send(child, Signal::KILL);
        }
        self.signal(Signal::KILL);
        self.child.wait().expect("a child can be waited for");
        let gone = poll(|| children.iter().all(|&child| stat(child).is_none()).then_some(()));
        assert!(gone.is_some(), "processes {children:?} outlive SIGKILL");
    }

    /// Stops the process, so that it starts no more children, and returns those it has.
    fn freeze(&mut self) -> Vec<u32> {
        self.signal(Signal::STOP);
        let stopped = poll(|| halted(self.id()).then_some(()));
        assert!(stopped.is_some(), "process {} does not stop", self.id());
        if self.exited().is_none() { children(self.id()) } else { Vec::new() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exited().is_none() {
            self.kill();
        }
    }
}

/// Spawns from a thread that never ends: the death signal is sent when the *thread* that spawned
/// dies, and a test's thread may end before a server that other tests share.
fn spawn(command: Command) -> io::Result<Child> {
    type Job = (Command, mpsc::SyncSender<io::Result<Child>>);
    static SPAWNER: LazyLock<mpsc::Sender<Job>> = LazyLock::new(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name("test-servers".to_owned())
            .spawn(move || {
                for (mut command, reply) in queue {
                    let _ = reply.send(command.spawn());
                }
            })
            .expect("a thread can be started");
        jobs
    });
    let (reply, child) = mpsc::sync_channel(1);
    SPAWNER.send((command, reply)).expect("the spawner never ends");
    child.recv().expect("the spawner answers every job")
}

/// Sends a signal to a process that may have ended.
pub(crate) fn send(id: u32, signal: Signal) {
    let id = i32::try_from(id).ok().and_then(Pid::from_raw).expect("the kernel's ids are positive");
    let _ = kill_process(id, signal);
}

fn children(parent: u32) -> Vec<u32> {
    fs::read_dir("/proc")
        .expect("/proc is mounted")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&id| stat(id).is_some_and(|stat| stat.parent == parent))
        .collect()
}

/// Whether a process has stopped or ended.
fn halted(id: u32) -> bool {
    stat(id).is_none_or(|stat| stat.state == "T")
}

struct Stat {
    state: String,
    parent: u32,
}

/// The kernel's information on a process; `None` if it has ended, whether or not it was waited for.
fn stat(id: u32) -> Option<Stat> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // `id (name) state parent …`, where the name may contain anything.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next().filter(|&state| state != "Z")?.to_owned();
    Some(Stat { state, parent: fields.next()?.parse().ok()? })
}
