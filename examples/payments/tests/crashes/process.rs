//! A service in its own process, which is killed and started again.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_mins(1);

/// A service that may be dead. Killed when dropped.
pub(crate) struct Service {
    program: &'static str,
    variables: Vec<(&'static str, String)>,
    running: Mutex<Running>,
    log: Arc<Mutex<String>>,
}

struct Running {
    child: Child,
    /// `127.0.0.1:port`
    address: String,
}

impl Service {
    /// Starts it on a free port, which `variables` must ask for, and waits until it listens.
    pub(crate) fn start(program: &'static str, variables: Vec<(&'static str, String)>) -> Self {
        let log = Arc::default();
        let running = Mutex::new(launch(program, &variables, &log));
        Self { program, variables, running, log }
    }

    /// Where it listens, or has listened.
    pub(crate) fn address(&self) -> String {
        lock(&self.running).address.clone()
    }

    /// SIGKILL. Returns when it is dead.
    pub(crate) fn kill(&self) {
        kill(&mut lock(&self.running).child);
    }

    /// SIGTERM, which asks it to end.
    pub(crate) fn terminate(&self) {
        let id = lock(&self.running).child.id().to_string();
        let kill = Command::new("kill").args(["-s", "TERM", &id]).status();
        assert!(kill.expect("`kill` runs").success());
    }

    /// Waits until it has ended.
    pub(crate) fn ended(&self) -> ExitStatus {
        lock(&self.running).child.wait().expect("one's own child can be waited for")
    }

    /// Starts it again, on another port.
    pub(crate) fn restart(&self) {
        let running = launch(self.program, &self.variables, &self.log);
        kill(&mut std::mem::replace(&mut *lock(&self.running), running).child);
    }

    /// What all its processes have logged.
    pub(crate) fn log(&self) -> String {
        lock(&self.log).clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

fn kill(child: &mut Child) {
    child.kill().expect("one's own child can be killed");
    child.wait().expect("one's own child can be waited for");
}

/// Starts it, and again if it ends at once: on a busy machine a database may answer too late.
fn launch(
    program: &str,
    variables: &[(&'static str, String)],
    log: &Arc<Mutex<String>>,
) -> Running {
    let since = Instant::now();
    loop {
        let mut command = Command::new(program);
        command.env_clear().envs(variables.iter().map(|(name, value)| (name, value)));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let logging = keep(child.stderr.take().expect("it is piped"), Arc::clone(log));
        let mut first = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        stdout.read_line(&mut first).expect("it can be read");
        if let Some(address) = first.trim_end().strip_prefix("listening on http://") {
            return Running { child, address: address.to_owned() };
        }
        kill(&mut child);
        logging.join().expect("it does not panic");
        assert!(since.elapsed() < PATIENCE, "{program} does not come up: {first}{}", lock(log));
    }
}

/// Appends what comes to `log`, until the end.
fn keep(from: ChildStderr, log: Arc<Mutex<String>>) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut log = lock(&log);
            log.push_str(&line);
            log.push('\n');
        }
    })
}

/// Locks what no panic leaves half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
