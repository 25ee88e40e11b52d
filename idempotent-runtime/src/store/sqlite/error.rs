//! What an SQLite error means to someone who reads the log.

use std::path::Path;

use sqlx::{Error, error::DatabaseError};

/// The [result codes](https://www.sqlite.org/rescode.html) without their extensions.
const PERM: i32 = 3;
const BUSY: i32 = 5;
const READONLY: i32 = 8;
const IOERR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const NOTADB: i32 = 26;
/// The index of the log could not grow.
const IOERR_SHMSIZE: i32 = IOERR | (19 << 8);

/// What to do about a corrupt file.
pub(super) const RESTORE: &str = "restore it from a backup, or move it away with the files next to \
                                  it; requests it held then run again if they are retried";
const READ_ONLY: &str = "is read-only: allow the service to write to it and to its directory";

/// What to do, worded to follow the name of the file; `None` if unknown.
pub(super) fn what_to_do(error: &Error) -> Option<&'static str> {
    let extended = code(error)?;
    if extended == IOERR_SHMSIZE {
        return what_to_do_about(FULL);
    }
    what_to_do_about(extended & 0xff)
}

fn what_to_do_about(code: i32) -> Option<&'static str> {
    Some(match code {
        BUSY => {
            "is locked by another program, which has begun to write to it: stop that program, \
             nothing else may write to the file"
        }
        READONLY | PERM => READ_ONLY,
        IOERR => "could not be read or written: check its disk",
        FULL => "cannot grow because its disk is full: make room; stored responses are kept",
        CANTOPEN => "could not be opened: check its directory and its permissions",
        _ => return None,
    })
}

/// Whether another program has begun to write.
pub(super) fn is_locked(error: &Error) -> bool {
    code(error).is_some_and(|code| code & 0xff == BUSY)
}

/// What a store reports if its file turns out to be corrupt while in use.
pub(super) fn damaged(path: &Path) -> String {
    format!(
        "`{}` is damaged: what can be read is replayed, and nothing new runs; stop the service, \
         then {RESTORE}",
        path.display()
    )
}

/// Whether the file contains something that SQLite did not write.
pub(super) fn is_damage(error: &Error) -> bool {
    code(error).is_some_and(|code| matches!(code & 0xff, CORRUPT | NOTADB))
}

fn code(error: &Error) -> Option<i32> {
    error.as_database_error().and_then(DatabaseError::code)?.parse().ok()
}
