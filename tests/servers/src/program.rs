//! Where the servers' programs are, and what to install if one is missing.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::process::{PATIENCE, send};

/// The path of `name`, looked up in `PATH`, in `/usr/sbin` (which a user's `PATH` may lack) and in
/// Debian's directories of the Postgres releases, the newest first.
///
/// # Panics
///
/// Panics if it cannot be found, with a message that names the Debian `package` that contains it.
pub(crate) fn find(name: &str, package: &str) -> PathBuf {
    postgres_directories()
        .into_iter()
        .chain(env::split_paths(&env::var_os("PATH").unwrap_or_default()))
        .chain([PathBuf::from("/usr/sbin")])
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!("`{name}` is missing: run `apt-get install {package}`, or `tests/run`")
        })
}

/// Before `PATH`, because Debian puts wrappers there that choose a server by their own
/// configuration.
fn postgres_directories() -> Vec<PathBuf> {
    let mut releases: Vec<(u32, PathBuf)> = fs::read_dir(Path::new("/usr/lib/postgresql"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))
        })
        .collect();
    releases.sort_by(|left, right| right.cmp(left));
    releases.into_iter().map(|(_, directory)| directory).collect()
}

/// Runs a program to its end and returns its standard output without the last line break. A program
/// that waits for a server that never answers is killed.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    output_within(PATIENCE, command)
}

fn output_within(limit: Duration, command: &mut Command) -> Result<String, String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().map_err(|error| format!("{command:?} does not start: {error}"))?;
    let id = child.id();
    let (sender, ended) = mpsc::sync_channel(1);
    thread::spawn(move || sender.send(child.wait_with_output()));
    let ended = ended.recv_timeout(limit).map_err(|_| {
        send(id, Signal::KILL);
        format!("{command:?} has not ended after {limit:?}")
    })?;
    let Output { status, stdout, stderr } = ended.expect("a child can be waited for");
    let stdout = String::from_utf8_lossy(&stdout);
    if status.success() {
        Ok(stdout.trim_end_matches('\n').to_owned())
    } else {
        Err(format!("{command:?}: {status}\n{stdout}{}", String::from_utf8_lossy(&stderr)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "`no-such-server` is missing: run `apt-get install the-package`")]
    fn a_missing_program_fails_the_test_and_names_the_package() {
        find("no-such-server", "the-package");
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_and_an_error() {
        let error = output_within(Duration::ZERO, Command::new("sleep").arg("infinity"));
        assert_eq!(error, Err(r#""sleep" "infinity" has not ended after 0ns"#.to_owned()));
    }
}
