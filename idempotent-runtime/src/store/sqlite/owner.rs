//! [`Owner`]: makes one process the owner of a file.
//!
//! The lock is on a file next to the database, and the system frees it when the process ends,
//! however it does. It is not on the database itself: opening and closing that by hand would drop
//! the locks that SQLite holds on it, and `locking_mode=EXCLUSIVE` would lock out this process's
//! readers.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Write as _},
    path::Path,
    sync::OnceLock,
};

use uuid::Uuid;

use super::place::{beside, cannot_make};
use crate::store::ConnectError;

/// The suffix of the lock file's name, like SQLite's `-wal` and `-shm`.
const SUFFIX: &str = "-lock";
/// The maximum length of the holder's name.
const LONGEST_NAME: u64 = 256;

/// The right to use a database file, until it is dropped.
#[derive(Debug)]
pub(super) struct Owner {
    lock: File,
}

impl Owner {
    pub(super) fn take(database: &Path) -> Result<Self, ConnectError> {
        let path = beside(database, SUFFIX);
        let mut lock = File::options();
        let lock = lock.read(true).write(true).create(true).truncate(false).open(&path);
        let mut lock = lock.map_err(|error| cannot_make(&path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(database, &mut lock)),
            Err(TryLockError::Error(error)) => {
                return Err(ConnectError::new(format!(
                    "cannot lock `{}`: keep the file of the idempotency store on a local disk",
                    path.display()
                ))
                .because(error));
            }
        }
        // Only for people: the lock also holds without it, on a full disk for example.
        if let Err(error) = write_name(&mut lock) {
            tracing::debug!(
                target: crate::TARGET,
                error = &error as &dyn std::error::Error,
                "the lock of the idempotency store does not name its holder"
            );
        }
        Ok(Self { lock })
    }
}

/// Unlocks explicitly: a child process that is just being started has a copy of the file until it
/// runs its program, and if this one were only closed, the copy would hold the lock until then.
impl Drop for Owner {
    fn drop(&mut self) {
        // It only fails if it is unlocked already.
        let _ = self.lock.unlock();
    }
}

/// The error if someone else holds the lock.
fn in_use(database: &Path, lock: &mut File) -> ConnectError {
    let mut text = String::new();
    // Anything that is not text names nobody.
    let _ = lock.take(LONGEST_NAME).read_to_string(&mut text);
    let mut lines = text.lines();
    let name = lines.next().filter(|name| !name.is_empty()).unwrap_or("another process");
    let database = database.display();
    ConnectError::new(if lines.next() == Some(&*own_id().to_string()) {
        format!(
            "`{database}` is open in this process already: clone its `SqliteStore`, or close it"
        )
    } else {
        format!(
            "`{database}` is in use by {name}: one process owns the file, so end that one before \
             this one starts"
        )
    })
}

/// Writes this process's name to the first line, for people, and what distinguishes it from all
/// others to the second.
fn write_name(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    write!(lock, "{}\n{}\n", own_name(), own_id())
}

fn own_name() -> String {
    let program = std::env::current_exe().ok();
    let program = program.as_deref().and_then(Path::file_name);
    let program = program.map(|name| format!(" (`{}`)", name.display()));
    // In a container the process id alone means little.
    let host = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host.map(|host| format!(" on `{}`", host.trim_end()));
    let (program, host) = (program.unwrap_or_default(), host.unwrap_or_default());
    format!("process {}{program}{host}", std::process::id())
}

/// In another container, another process may have the same id.
fn own_id() -> Uuid {
    static ID: OnceLock<Uuid> = OnceLock::new();
    *ID.get_or_init(Uuid::new_v4)
}
