//! [`Failure`]: why a command was not answered, and whether a server may have received it
//! nevertheless.

use std::error::Error as _;

use ::redis::{ErrorKind, RedisError};

use crate::store::{StoreError, cause::Cause};

/// Why a command was not answered.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: RedisError,
    /// `false` only if no server can have received the command.
    may_have_arrived: bool,
}

impl Failure {
    /// For a command of which nothing is known but the error.
    pub(super) fn unknown(error: RedisError) -> Self {
        Self { error, may_have_arrived: true }
    }

    /// For a command that was certainly not sent.
    pub(super) fn not_sent(error: RedisError) -> Self {
        Self { error, may_have_arrived: false }
    }

    /// For a command that had been sent before, with this outcome.
    pub(super) fn after(self, earlier: &Self) -> Self {
        let may_have_arrived = self.may_have_arrived || earlier.may_have_arrived;
        Self { may_have_arrived, ..self }
    }

    /// Whether the connection broke during the command, so that a new one may work.
    pub(super) fn is_lost_connection(&self) -> bool {
        self.error.is_connection_dropped() && !self.error.is_connection_refusal()
    }
}

/// For a command that was sent once.
impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self { may_have_arrived: !is_met_before_sending(&error), error }
    }
}

/// Whether the client encounters `error` only while connecting. Errors that can also occur later,
/// such as timeouts, do not count.
fn is_met_before_sending(error: &RedisError) -> bool {
    // How std reports an unresolvable name; there is no `io::ErrorKind` for it.
    const UNRESOLVED: &str = "failed to lookup address information";
    match error.kind() {
        ErrorKind::AuthenticationFailed
        | ErrorKind::ClusterConnectionNotFound
        | ErrorKind::InvalidClientConfig => true,
        ErrorKind::Io => error.is_connection_refusal() || error.to_string().starts_with(UNRESOLVED),
        _ => false,
    }
}

impl From<Failure> for StoreError {
    fn from(Failure { error, may_have_arrived }: Failure) -> Self {
        if !may_have_arrived {
            Self::not_sent(Cause(error))
        } else if is_wrong_type(&error) {
            Self::foreign_entry().because(Cause(error))
        } else {
            Self::new(Cause(error))
        }
    }
}

/// Whether the server refused a command, or one that a script runs, for lack of permission.
pub(super) fn is_want_of_right(error: &StoreError) -> bool {
    let error = error.source().and_then(|source| source.downcast_ref::<Cause<RedisError>>());
    error.is_some_and(|Cause(error)| {
        // Redis 6 and 7 word this differently for scripts.
        let text = error.to_string();
        let words = ["NOPERM", "ACL failure", "can't run this command", "No permissions"];
        error.code() == Some("NOPERM") || words.iter().any(|words| text.contains(words))
    })
}

/// Whether the key holds something other than a string. Redis 6 says so in the middle of a script's
/// error.
fn is_wrong_type(error: &RedisError) -> bool {
    const CODE: &str = "WRONGTYPE";
    error.code() == Some(CODE) || error.detail().is_some_and(|detail| detail.contains(CODE))
}

#[cfg(test)]
mod tests {
    use std::io;

    use ::redis::parse_redis_value;

    use super::*;

    fn met(kind: io::ErrorKind) -> StoreError {
        Failure::from(RedisError::from(io::Error::from(kind))).into()
    }

    fn answered(error: &str) -> StoreError {
        let answer = parse_redis_value(format!("-{error}\r\n").as_bytes()).unwrap();
        Failure::from(answer.extract_error().unwrap_err()).into()
    }

    #[test]
    fn only_what_is_met_while_connecting_was_not_sent() {
        assert!(met(io::ErrorKind::ConnectionRefused).is_not_sent());
        for kind in [
            io::ErrorKind::BrokenPipe,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::HostUnreachable,
            io::ErrorKind::NotConnected,
            io::ErrorKind::TimedOut,
            io::ErrorKind::UnexpectedEof,
        ] {
            assert!(!met(kind).is_not_sent(), "{kind}");
        }
        for error in ["OOM command not allowed", "READONLY a replica", "CLUSTERDOWN", "NOAUTH"] {
            assert!(!answered(error).is_not_sent(), "{error}");
        }
    }

    #[test]
    fn a_command_that_may_have_arrived_once_may_have_arrived() {
        let error = |kind| Failure::from(RedisError::from(io::Error::from(kind)));
        let lost = || error(io::ErrorKind::ConnectionReset);
        let refused = || error(io::ErrorKind::ConnectionRefused);
        assert!(!StoreError::from(refused().after(&lost())).is_not_sent());
        assert!(!StoreError::from(lost().after(&refused())).is_not_sent());
        assert!(StoreError::from(refused().after(&refused())).is_not_sent());
    }

    #[test]
    fn a_key_of_another_type_is_foreign() {
        for error in [
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "ERR Error running script (call to f_0): @user_script:1: WRONGTYPE Operation against a key",
        ] {
            assert!(answered(error).is_foreign_entry(), "{error}");
        }
        assert!(!answered("OOM command not allowed").is_foreign_entry());
    }
}
