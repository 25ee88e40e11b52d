//! [`Disk`]: a place for files that can fill up.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::directory::Directory;
use crate::program;

/// Room for some ten thousand records, and for what a database keeps next to its file.
const SMALL: u64 = 32 << 20;

/// An empty directory, removed with everything in it on drop.
#[derive(Debug)]
pub struct Disk {
    directory: Directory,
    /// Files that are mounted on themselves.
    mounted: Mutex<Vec<PathBuf>>,
}

impl Disk {
    /// A directory on the disk for temporary files.
    #[must_use]
    pub fn new() -> Self {
        Self::on(Directory::new(None))
    }

    /// A separate disk of 32 MiB. Requires permission to mount.
    #[must_use]
    pub fn small() -> Self {
        let directory = Directory::new(None);
        directory.mount("disk", SMALL, None);
        Self::on(directory)
    }

    fn on(directory: Directory) -> Self {
        Self { directory, mounted: Mutex::default() }
    }

    /// Where files can be put.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.mounted().unwrap_or(self.directory.path())
    }

    /// Fills a [small](Self::small) disk: from now on no file can grow or be created.
    pub fn fill(&self) {
        self.directory.fill();
    }

    /// Undoes [`fill`](Self::fill).
    pub fn free(&self) {
        self.directory.free();
    }

    /// Makes one of its files read-only, even for root. Requires permission to mount.
    pub fn make_read_only(&self, file: &str) {
        let path = self.path().join(file);
        let mount = |arguments: &[&str]| {
            let mut mount = Command::new(program::find("mount", "mount"));
            mount.args(arguments).arg(&path);
            program::output(&mut mount).unwrap_or_else(|error| panic!("{error}"));
        };
        mount(&["--bind", path.to_str().expect("it is UTF-8")]);
        mount(&["-o", "remount,bind,ro"]);
        self.mounted.lock().unwrap_or_else(PoisonError::into_inner).push(path);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mounted = self.mounted.get_mut().unwrap_or_else(PoisonError::into_inner);
        for path in mounted {
            let _ = Command::new("umount").arg("--lazy").arg(path).status();
        }
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}
