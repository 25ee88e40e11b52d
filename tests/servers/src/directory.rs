//! Temporary directories that are removed with the value, or with the process however it ends.

use std::env;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::program;
use crate::user::User;

/// A directory, removed with everything in it on drop.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Where a separate filesystem is mounted.
    mount: OnceLock<PathBuf>,
}

impl Directory {
    /// A new, empty directory that only `owner` can access (the caller if `None`).
    pub(crate) fn new(owner: Option<User>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let path = ROOT.path.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .expect("the process's own directory is writable");
        if let Some(owner) = owner {
            owner.own(&path);
        }
        Self { path, mount: OnceLock::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Mounts a filesystem of `size` bytes on a new directory in this one, for `owner`.
    pub(crate) fn mount(&self, name: &str, size: u64, owner: Option<User>) -> &Path {
        let options = format!("size={size},mode=0700");
        let path = self.mount_with(name, &["-t", "tmpfs", "-o", &options, "test-servers"]);
        if let Some(owner) = owner {
            owner.own(path);
        }
        path
    }

    /// Mounts the filesystem in a file on a new directory in this one.
    pub(crate) fn mount_image(&self, name: &str, image: &Path) -> &Path {
        let image = image.to_str().expect("it is UTF-8");
        self.mount_with(name, &["-o", "loop,noatime", image])
    }

    fn mount_with(&self, name: &str, arguments: &[&str]) -> &Path {
        let path = self.path.join(name);
        DirBuilder::new().mode(0o700).create(&path).expect("it is writable");
        let mut mount = Command::new(program::find("mount", "mount"));
        if let Err(error) = program::output(mount.args(arguments).arg(&path)) {
            panic!(
                "a disk of a test's own needs the right to mount one: run the tests as root, in a \
                 container with the capability SYS_ADMIN\n{error}"
            );
        }
        self.mount.get_or_init(|| path)
    }

    /// Where [`mount`](Self::mount) has mounted a filesystem.
    pub(crate) fn mounted(&self) -> Option<&Path> {
        self.mount.get().map(PathBuf::as_path)
    }

    /// Fills what is mounted: from now on no file can grow or be created there.
    pub(crate) fn fill(&self) {
        let fill = || {
            let mut hog = File::create(self.hog())?;
            loop {
                hog.write_all(&[0; 4096])?;
            }
        };
        let ended: io::Result<()> = fill();
        let error = ended.expect_err("a disk is full at some time");
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    }

    /// Undoes [`fill`](Self::fill).
    pub(crate) fn free(&self) {
        fs::remove_file(self.hog()).expect("the disk was filled");
    }

    fn hog(&self) -> PathBuf {
        self.mounted().expect("it has a small disk").join("hog")
    }

    /// An empty file for the server's output.
    pub(crate) fn create_log(&self) -> File {
        File::options()
            .create(true)
            .write(true)
            .truncate(true)
            .open(self.path.join("log"))
            .expect("it is writable")
    }

    /// The server's output so far.
    pub(crate) fn log(&self) -> String {
        fs::read(self.path.join("log"))
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // The process's janitor unmounts and removes what is left.
        if let Some(mount) = self.mounted() {
            // Even if something still uses it.
            let _ = Command::new("umount").arg("--lazy").arg(mount).status();
        }
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The directory of this process's servers. A `static` is never dropped, and a killed process drops
/// nothing, so a janitor removes it: a shell that waits for the end of its standard input, which
/// comes when this process ends.
struct Root {
    path: PathBuf,
    _janitor: Child,
}

/// A killed Postgres leaves a segment of shared memory behind, identified by the last word on the
/// seventh line of its file. A filesystem mounted in its directory is unmounted first. A dying
/// server may still be writing while its directory is being removed, and a dying browser creates its
/// profile again afterwards: so the directory has to stay gone for a while.
const JANITOR: &str = r#"
    cat
    for file in "$0"/*/data/postmaster.pid; do
        ipcrm -m "$(sed -n '7s/.* //p' "$file")"
    done
    umount --lazy "$0"/*/data "$0"/*/disk
    gone=0
    for try in 1 2 3 4 5 6 7 8 9 10; do
        rm -rf "$0"
        sleep 1
        if [ -e "$0" ]; then gone=0; else gone=$((gone + 1)); fi
        [ "$gone" = 3 ] && exit
    done
"#;

static ROOT: LazyLock<Root> = LazyLock::new(|| {
    let path = loop {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("the clock is past 1970")
            .as_nanos();
        let path = env::temp_dir().join(format!("test-servers-{}-{now}", process::id()));
        // Others may pass through to their own directories, but cannot list anything.
        match DirBuilder::new().mode(0o711).create(&path) {
            Ok(()) => break path,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => panic!("cannot create {}: {error}", path.display()),
        }
    };
    let janitor = Command::new("sh")
        .args(["-c", JANITOR])
        .arg(&path)
        .process_group(0) // Ctrl-C ends the tests, not the janitor
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("there is a shell");
    Root { path, _janitor: janitor }
});
