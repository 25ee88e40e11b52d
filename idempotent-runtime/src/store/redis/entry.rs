//! What a key of Redis holds: the layout, written here and by the scripts.
//!
//! State (`r`, running, or `s`, stored), token, fingerprint and, once stored, the record. A later
//! release that changes the layout takes other letters for the states: this one answers them with
//! an error, never a miss.

use std::{ops::Range, time::Duration};

use bytes::Bytes;

use crate::store::{Attempt, Claim, Fingerprint, KeyState, StoreError, Token};

pub(super) const RUNNING: u8 = b'r';
const STORED: u8 = b's';
const TOKEN: Range<usize> = 1..17;
const FINGERPRINT: Range<usize> = 17..HEAD;
const HEAD: usize = 33;

/// The entry of a key that is not absent.
pub(super) enum Entry {
    Running { token: Token, fingerprint: Fingerprint, lease_left: Option<Duration> },
    Stored { fingerprint: Fingerprint, record: Bytes, expires_in: Duration },
}

impl Entry {
    /// Reads an entry that has `left` milliseconds left.
    pub(super) fn parse(entry: &Bytes, left: i64) -> Result<Self, StoreError> {
        let digest = |range| entry.get(range).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
        let (Some(state), Some(token), Some(fingerprint)) =
            (entry.first(), digest(TOKEN), digest(FINGERPRINT))
        else {
            return Err(StoreError::foreign_entry());
        };
        let (token, fingerprint) = (Token::from_bytes(token), Fingerprint::from_bytes(fingerprint));
        let left = time_left(left);
        match *state {
            RUNNING => Ok(Self::Running { token, fingerprint, lease_left: left }),
            STORED => Ok(Self::Stored {
                fingerprint,
                record: entry.slice(HEAD..),
                expires_in: left.unwrap_or_default(),
            }),
            _ => Err(StoreError::foreign_entry()),
        }
    }

    /// What a claim by `token` for `lease` found, or made.
    pub(super) fn claim(self, token: Token, lease: Duration) -> Claim {
        match self {
            Self::Running { token: holder, .. } if holder == token => {
                Claim::Claimed { lease: Some(lease) }
            }
            Self::Running { fingerprint, lease_left, .. } => {
                Claim::Running { fingerprint: Some(fingerprint), lease_left }
            }
            Self::Stored { fingerprint, record, expires_in } => {
                Claim::Stored { fingerprint, record, expires_in }
            }
        }
    }

    pub(super) fn state(self) -> KeyState {
        match self {
            Self::Running { fingerprint, lease_left, .. } => {
                KeyState::Running { fingerprint: Some(fingerprint), lease_left }
            }
            Self::Stored { fingerprint, record, expires_in } => {
                KeyState::Stored { fingerprint, record, expires_in }
            }
        }
    }
}

/// The entry of a claim.
pub(super) fn claimed_by(attempt: &Attempt) -> Vec<u8> {
    [&held_by(attempt.token), &attempt.fingerprint.as_bytes()[..]].concat()
}

/// What the entry of a claim by `token` begins with.
pub(super) fn held_by(token: Token) -> [u8; 17] {
    let mut head = [RUNNING; 17];
    head[TOKEN].copy_from_slice(token.as_bytes());
    head
}

/// What `PTTL` says of a key that is there; `None` only if somebody took its expiry away.
pub(super) fn time_left(milliseconds: i64) -> Option<Duration> {
    u64::try_from(milliseconds).ok().map(Duration::from_millis)
}

/// As Redis takes a time: in decimal, never 0, and far from the overflow of its clock.
pub(super) fn milliseconds(time: Duration) -> Vec<u8> {
    const MAX: u128 = i64::MAX as u128 / 4;
    time.as_millis().clamp(1, MAX).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_what_redis_accepts() {
        assert_eq!(milliseconds(Duration::ZERO), b"1");
        assert_eq!(milliseconds(Duration::from_micros(1500)), b"1");
        assert_eq!(milliseconds(Duration::from_hours(1)), b"3600000");
        assert_eq!(milliseconds(Duration::MAX), b"2305843009213693951");
    }

    #[test]
    fn an_unknown_entry_is_foreign_and_never_a_miss() {
        let parse = |entry: &[u8]| Entry::parse(&Bytes::copy_from_slice(entry), 1);
        for entry in [&b""[..], b"r", b"s0123456789abcdef", &[b't'; HEAD], &[b'R'; 2 * HEAD]] {
            let error = parse(entry).err().unwrap_or_else(|| panic!("{entry:?} is read"));
            assert!(error.is_foreign_entry(), "{entry:?}: {error}");
        }
        assert!(
            matches!(parse(&[b's'; HEAD]), Ok(Entry::Stored { record, .. }) if record.is_empty())
        );
        assert!(matches!(parse(&[b'r'; HEAD]), Ok(Entry::Running { .. })));
    }

    #[test]
    fn an_entry_that_lost_its_expiry_cannot_lapse_or_is_about_to_expire() {
        let parse = |state: u8| Entry::parse(&vec![state; HEAD].into(), -1).unwrap().state();
        assert!(matches!(parse(RUNNING), KeyState::Running { lease_left: None, .. }));
        assert!(
            matches!(parse(STORED), KeyState::Stored { expires_in, .. } if expires_in.is_zero())
        );
    }
}
