//! What every benchmark does as a program.

use std::{
    env,
    path::PathBuf,
    process::{self, Command},
};

use tokio::runtime::{Builder, Runtime};

/// What the arguments mean to `parse`; if nothing, prints the usage and ends the program.
pub fn arguments<T>(usage: &str, parse: impl FnOnce(&[&str]) -> Option<T>) -> T {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    parse(&arguments).unwrap_or_else(|| {
        eprintln!("usage: benches/run {usage}");
        process::exit(2)
    })
}

/// Where this program is.
#[must_use]
pub fn path() -> PathBuf {
    env::current_exe().expect("the system knows")
}

/// This program, to be run in a process of its own.
#[must_use]
pub fn again() -> Command {
    Command::new(path())
}

/// A runtime with so many workers, a single one on the calling thread.
#[must_use]
pub fn runtime(workers: usize) -> Runtime {
    let mut builder = match workers {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.worker_threads(workers).enable_all().build().expect("a runtime can be built")
}
