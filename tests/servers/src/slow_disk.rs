//! [`SlowDisk`]: a disk that does not answer.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::directory::Directory;
use crate::program;

const SIZE: u64 = 32 << 20;

/// Anyone who writes waits from the first line on. It ends on its own, whatever happens to this
/// process: what waits for the disk cannot be killed.
const HANG: &str = r#"
    fsfreeze --freeze "$0" && echo frozen
    timeout 120 cat
    fsfreeze --unfreeze "$0"
"#;
const HANG_FOR: &str = r#"
    fsfreeze --freeze "$0"
    sleep "$1"
    fsfreeze --unfreeze "$0"
"#;
/// How long the disk works between two pauses.
const BETWEEN: Duration = Duration::from_millis(5);

/// A directory on a separate disk, an ext4 in a file, that can be made to hang: writes and syncs
/// wait, while what the system has in memory can be read. Requires permission to mount, and a loop
/// device.
#[derive(Debug)]
pub struct SlowDisk {
    directory: Directory,
    pausing: Mutex<Option<Pausing>>,
}

#[derive(Debug)]
enum Pausing {
    Always(Child),
    AgainAndAgain { is_over: Arc<AtomicBool>, pauses: JoinHandle<()> },
}

impl SlowDisk {
    /// A disk that works.
    #[must_use]
    pub fn new() -> Self {
        let directory = Directory::new(None);
        let image = directory.path().join("image");
        let file = File::create(&image).expect("it is writable");
        file.set_len(SIZE).expect("it can be that long");
        let mut format = Command::new(program::find("mkfs.ext4", "e2fsprogs"));
        program::output(format.arg("-q").arg(&image)).unwrap_or_else(|error| panic!("{error}"));
        directory.mount_image("disk", &image);
        Self { directory, pausing: Mutex::default() }
    }

    /// Where files can be put.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.mounted().expect("it is mounted")
    }

    /// From now on the disk hangs; if `each` is given, it hangs for that long again and again.
    pub fn pause(&self, each: Option<Duration>) {
        let pausing = match each {
            None => {
                let mut hang = self.script(HANG);
                hang.stdin(Stdio::piped()).stdout(Stdio::piped());
                let mut hang = hang.spawn().expect("there is a shell");
                let mut line = String::new();
                let output = hang.stdout.as_mut().expect("it is piped");
                BufReader::new(output).read_line(&mut line).expect("it can be read");
                assert_eq!(line, "frozen\n", "a disk that hangs needs the right to make it");
                Pausing::Always(hang)
            }
            Some(each) => {
                let is_over = Arc::<AtomicBool>::default();
                let mut hang = self.script(HANG_FOR);
                hang.arg(each.as_secs_f64().to_string());
                let ended = Arc::clone(&is_over);
                let pauses = thread::spawn(move || {
                    while !ended.load(Ordering::SeqCst) {
                        assert!(hang.status().expect("there is a shell").success());
                        thread::sleep(BETWEEN);
                    }
                });
                Pausing::AgainAndAgain { is_over, pauses }
            }
        };
        *self.pausing.lock().unwrap_or_else(PoisonError::into_inner) = Some(pausing);
    }

    /// Undoes [`pause`](Self::pause).
    pub fn resume(&self) {
        let pausing = self.pausing.lock().unwrap_or_else(PoisonError::into_inner).take();
        match pausing.expect("it was paused") {
            Pausing::Always(mut hang) => {
                drop(hang.stdin.take());
                assert!(hang.wait().expect("it can be waited for").success());
            }
            Pausing::AgainAndAgain { is_over, pauses } => {
                is_over.store(true, Ordering::SeqCst);
                pauses.join().expect("it can be paused");
            }
        }
    }

    fn script(&self, script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).arg(self.path());
        shell
    }
}

impl Default for SlowDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        let is_paused = self.pausing.get_mut().unwrap_or_else(PoisonError::into_inner).is_some();
        if is_paused {
            self.resume();
        }
    }
}
