//! What a Redis key holds: the layout, written here and by the scripts.
//!
//! State (`R`, running, or `S`, stored), token, fingerprint, the operation's name prefixed with its
//! length in one byte (for people), and, once stored, the record. A later release that changes the
//! layout uses other letters for the states: this one responds to them with an error, never a miss.

use std::{ops::Range, time::Duration};

use bytes::Bytes;

use crate::store::{Attempt, Claim, Fingerprint, KeyState, StoreError, Token};

pub(super) const RUNNING: u8 = b'R';
const STORED: u8 = b'S';
const TOKEN: Range<usize> = 1..17;
const FINGERPRINT: Range<usize> = 17..HEAD;
const HEAD: usize = 33;
/// The maximum length of an operation's name in bytes; longer names are cut.
const LONGEST_OPERATION: usize = 255;

/// The entry of a key that is not absent.
pub(super) enum Entry {
    Running { token: Token, fingerprint: Fingerprint, lease_left: Option<Duration> },
    Stored { fingerprint: Fingerprint, record: Bytes, expires_in: Duration },
}

impl Entry {
    /// Parses an entry that has `left` milliseconds left.
    pub(super) fn parse(entry: &Bytes, left: i64) -> Result<Self, StoreError> {
        let digest = |range| entry.get(range).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
        let (Some(state), Some(token), Some(fingerprint)) =
            (entry.first(), digest(TOKEN), digest(FINGERPRINT))
        else {
            return Err(StoreError::foreign_entry());
        };
        let record = entry.get(HEAD).map(|length| HEAD + 1 + usize::from(*length));
        let Some(record) = record.filter(|record| *record <= entry.len()) else {
            return Err(StoreError::foreign_entry());
        };
        let (token, fingerprint) = (Token::from_bytes(token), Fingerprint::from_bytes(fingerprint));
        let left = time_left(left);
        match *state {
            RUNNING => Ok(Self::Running { token, fingerprint, lease_left: left }),
            STORED => Ok(Self::Stored {
                fingerprint,
                record: entry.slice(record..),
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
    let operation = attempt.operation();
    let operation = &operation[..boundary_up_to(operation, LONGEST_OPERATION)];
    let length = u8::try_from(operation.len()).unwrap_or(u8::MAX);
    let fingerprint = &attempt.fingerprint.as_bytes()[..];
    [&held_by(attempt.token), fingerprint, &[length], operation.as_bytes()].concat()
}

/// The last character boundary of `text` up to `most`.
fn boundary_up_to(text: &str, most: usize) -> usize {
    (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default()
}

/// The beginning of the entry of a claim by `token`.
pub(super) fn held_by(token: Token) -> [u8; 17] {
    let mut head = [RUNNING; 17];
    head[TOKEN].copy_from_slice(token.as_bytes());
    head
}

/// The result of `PTTL` for an existing key; `None` only if someone removed its expiry.
pub(super) fn time_left(milliseconds: i64) -> Option<Duration> {
    u64::try_from(milliseconds).ok().map(Duration::from_millis)
}

/// A duration in the form that Redis takes: in decimal, never 0, and far from overflowing its
/// clock.
pub(super) fn milliseconds(time: Duration) -> Vec<u8> {
    const MAX: u128 = i64::MAX as u128 / 4;
    time.as_millis().clamp(1, MAX).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry in this state, of an operation with an empty name.
    fn whole(state: u8) -> Vec<u8> {
        [&[state; HEAD][..], &[0]].concat()
    }

    #[test]
    fn the_entry_of_a_claim_says_its_operation_however_long_it_is() {
        let named = |operation: &str| {
            let fingerprint = Fingerprint::from_bytes([7; 16]);
            let key = crate::StoreKey::from_bytes([1; 16]);
            let attempt = Attempt::new(key, fingerprint, Token::random()).named(operation);
            let claim = claimed_by(&attempt);
            assert!(matches!(Entry::parse(&claim.clone().into(), 1), Ok(Entry::Running { .. })));
            String::from_utf8(claim[HEAD + 1..].to_vec()).unwrap()
        };
        assert_eq!(named("POST /payments/{id}"), "POST /payments/{id}");
        assert_eq!(named(""), "");
        assert_eq!(named(&"ä".repeat(200)), "ä".repeat(127));
    }

    #[test]
    fn times_are_what_redis_accepts() {
        assert_eq!(milliseconds(Duration::ZERO), b"1");
        assert_eq!(milliseconds(Duration::from_micros(1500)), b"1");
        assert_eq!(milliseconds(Duration::from_secs(3600)), b"3600000");
        assert_eq!(milliseconds(Duration::MAX), b"2305843009213693951");
    }

    #[test]
    fn an_unknown_entry_is_foreign_and_never_a_miss() {
        let parse = |entry: &[u8]| Entry::parse(&Bytes::copy_from_slice(entry), 1);
        let (no_operation, half) =
            (&[b'S'; HEAD][..], &[&[b'R'; HEAD][..], &[9], b"POST /"].concat());
        let others = [&b""[..], b"R", b"S0123456789abcdef", &[b't'; HEAD + 1], &[b'r'; 300]];
        for entry in others.into_iter().chain([no_operation, half]) {
            let error = parse(entry).err().unwrap_or_else(|| panic!("{entry:?} is read"));
            assert!(error.is_foreign_entry(), "{entry:?}: {error}");
        }
        assert!(
            matches!(parse(&whole(STORED)), Ok(Entry::Stored { record, .. }) if record.is_empty())
        );
        assert!(matches!(parse(&whole(RUNNING)), Ok(Entry::Running { .. })));
    }

    #[test]
    fn an_entry_that_lost_its_expiry_cannot_lapse_or_is_about_to_expire() {
        let parse = |state: u8| Entry::parse(&whole(state).into(), -1).unwrap().state();
        assert!(matches!(parse(RUNNING), KeyState::Running { lease_left: None, .. }));
        assert!(
            matches!(parse(STORED), KeyState::Stored { expires_in, .. } if expires_in.is_zero())
        );
    }
}
