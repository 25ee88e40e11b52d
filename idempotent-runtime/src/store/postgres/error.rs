//! What a driver error means: for the connection, and for someone who reads the log.

use std::borrow::Cow;

use sqlx::{Error, error::DatabaseError};

use super::migrate::Table;
use crate::store::{StoreError, cause::Cause};

/// The `SQLSTATE` of a write to a read-only server.
const READ_ONLY: &str = "25006";
pub(super) const READ_ONLY_SERVER: &str = "the server is read-only (a replica, or \
                                           `default_transaction_read_only` is on): the \
                                           idempotency store needs the primary";
pub(super) const NO_RIGHT: &str = "42501";
pub(super) const LOCKED: &str = "55P03";
const UNDEFINED_TABLE: &str = "42P01";
pub(super) const UNDEFINED_COLUMN: &str = "42703";
/// A prepared statement that is missing, or that exists though this connection did not prepare it.
const FOREIGN_SESSION: [&str; 2] = ["26000", "42P05"];
const TIMED_OUT: &str = "57014";
/// What one of two conflicting transactions gets, if the default is stricter than `READ COMMITTED`.
pub(super) const CONFLICT: [&str; 2] = ["40001", "40P01"];
/// Out of connections, or of memory or disk for one, until someone else needs less.
const NO_ROOM: &str = "53";
pub(super) const POOLER: &str = "a connection pooler is in between, which may run each statement \
                                 in a different session: use \
                                 `PostgresStore::builder().transaction_pooler()`";

/// Whether a session is over after this error, although the error arrived over its connection.
fn ends_session(code: &str) -> bool {
    // All of class 08 is about the connection, and so are these of class 57: the server or this
    // session is shut down, ended after another one crashed, or is not up yet; its database was
    // dropped, or it was idle for too long. In class 25 a transaction was idle or ran for too long.
    code.starts_with("08")
        || matches!(code, "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "25P03" | "25P04")
}

/// Whether the same call may succeed at once: on another connection, or after a conflict.
pub(super) fn is_passing(error: &Error) -> bool {
    is_dead_connection(error) || is_conflict(error)
}

/// Whether this transaction conflicted with another one, and was rolled back.
pub(super) fn is_conflict(error: &Error) -> bool {
    CONFLICT.contains(&&*code(error))
}

/// Whether a whole transaction that failed with this error may succeed if retried.
pub(crate) fn is_passing_in_transaction(error: &Error) -> bool {
    let code = code(error);
    is_passing(error)
        || matches!(&*code, TIMED_OUT | LOCKED | READ_ONLY)
        || code.starts_with(NO_ROOM)
}

/// Whether the connection is gone, so that the same call may succeed on another one.
pub(super) fn is_dead_connection(error: &Error) -> bool {
    match error {
        // A runtime that has ended closes the sockets that were opened in it.
        Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::WorkerCrashed => true,
        Error::Database(_) => ends_session(&code(error)),
        _ => false,
    }
}

/// Whether the connection must not be used again: it is dead, or its server is no longer the
/// primary.
pub(super) fn is_useless_connection(error: &Error) -> bool {
    is_dead_connection(error) || code(error) == READ_ONLY
}

/// Whether a connection that could not be opened may open a moment later.
pub(super) fn is_passing_refusal(error: &Error) -> bool {
    let code = code(error);
    matches!(error, Error::Io(_) | Error::PoolTimedOut)
        || ends_session(&code)
        || code.starts_with(NO_ROOM)
}

/// Whether a pooler has refused the session's settings in the startup message.
pub(super) fn is_refused_by_pooler(error: &Error) -> bool {
    error.as_database_error().is_some_and(|error| error.message().contains("startup parameter"))
}

/// The error with a message that says what to do, if that is known.
pub(super) fn describe(error: Error, table: &Table) -> StoreError {
    if let Error::ColumnDecode { .. } = error {
        // The columns exist, but contain something that this release does not write.
        return StoreError::foreign_entry().because(Cause(error));
    }
    let code = code(&error);
    let message = if code == READ_ONLY {
        READ_ONLY_SERVER.to_owned()
    } else if code == UNDEFINED_TABLE {
        format!("the table {table} does not exist: call `PostgresStore::migrate`")
    } else if code == UNDEFINED_COLUMN {
        format!("the table {table} is from an earlier release: call `PostgresStore::migrate`")
    } else if FOREIGN_SESSION.contains(&&*code) {
        "a prepared statement is missing from its session, or another client's: behind a \
         transaction pooler such as PgBouncer the store needs \
         `PostgresStore::builder().transaction_pooler()`"
            .to_owned()
    } else if code == TIMED_OUT {
        "the server canceled the statement after its `statement_timeout`: it was waiting for a \
         lock, a synchronous standby, or a disk"
            .to_owned()
    } else {
        return StoreError::new(Cause(error));
    };
    StoreError::described(message).because(Cause(error))
}

pub(super) fn code(error: &Error) -> Cow<'_, str> {
    error.as_database_error().and_then(DatabaseError::code).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_ends_a_session_is_known_and_nothing_else_is() {
        // https://www.postgresql.org/docs/current/errcodes-appendix.html
        let ends =
            ["08000", "08003", "08006", "08001", "08004", "08007", "08P01", "57P01", "57P02"];
        let ends = ends.into_iter().chain(["57P03", "57P04", "57P05", "25P03", "25P04"]);
        for code in ends {
            assert!(ends_session(code), "{code}");
        }
        for code in ["57014", "57000", "25006", "25P02", "53300", "40001", "42P01", "55P03"] {
            assert!(!ends_session(code), "{code}");
        }
        for kind in [
            io::ErrorKind::BrokenPipe,
            io::ErrorKind::ConnectionAborted,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::NetworkUnreachable,
            io::ErrorKind::TimedOut,
            io::ErrorKind::UnexpectedEof,
        ] {
            let error = || Error::Io(kind.into());
            assert!(is_passing(&error()) && is_useless_connection(&error()), "{kind}");
            assert!(is_passing_refusal(&error()), "{kind}");
        }
        assert!(!is_passing(&Error::RowNotFound) && !is_useless_connection(&Error::RowNotFound));
    }

    #[test]
    fn a_row_that_cannot_be_read_is_foreign() {
        let described = |error| describe(error, &Table::default());
        let unread = || Error::ColumnDecode { index: "0".into(), source: "16 bytes".into() };
        assert!(described(unread()).is_foreign_entry());
        for error in [Error::RowNotFound, Error::Io(io::ErrorKind::BrokenPipe.into())] {
            let error = described(error);
            assert!(!error.is_foreign_entry() && !error.is_not_sent(), "{error}");
        }
    }
}
