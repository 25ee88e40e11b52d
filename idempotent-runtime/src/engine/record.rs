//! The record: how finished work is stored, as bytes that every release can read.
//!
//! ```text
//! magic 2 | version 1 | kind 1 | flags 1 | CRC-32 of all but itself 4 | payload
//! ```
//!
//! Numbers are little-endian. `flags` is 0, or 1 if the payload is sealed (`sealing`); the other
//! bits are room for compression. Release N writes what release N-1 reads. An unknown version, kind
//! or flag is distinguished from corruption, because neither may ever look like an absent key.

use bytes::{Buf as _, BufMut as _, Bytes};

use super::event::Decision;

const MAGIC: [u8; 2] = *b"iA";
const VERSION: u8 = 2;
const KIND: usize = 3;
const CHECKSUM: std::ops::Range<usize> = 5..9;
/// The number of bytes before the payload.
pub(crate) const ENVELOPE: usize = 9;

const KIND_ANSWER: u8 = 1;
const KIND_NOT_STORED: u8 = 2;
const KIND_UNKNOWN: u8 = 3;
const KIND_VALUE: u8 = 4;

#[cfg(feature = "seal")]
const SEALED: u8 = 1;

/// The contents of a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// The answer to replay. It begins with its status, a two-byte number.
    Answer(Bytes),
    /// The value to return, as JSON.
    Value(Bytes),
    /// The work is done, but its answer could not be stored.
    NotStored,
    /// It is unknown whether the work took effect.
    Unknown,
}

/// What a job's work returns, and expects in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Answer,
    Value,
}

/// Why a record cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Written by a release that this one does not know.
    UnknownVersion,
    /// Corrupt.
    Corrupt,
    /// Sealed with a key that this service does not have, or not sealed although it must be. The
    /// log already says so.
    #[cfg(feature = "seal")]
    NotAdmitted,
    /// Sealed, but not as it is now: for another key or fingerprint, or with other bytes.
    #[cfg(feature = "seal")]
    NotOpened,
}

/// A record that is being written.
pub(crate) struct Draft {
    bytes: Vec<u8>,
}

impl Draft {
    /// The record of an answer whose payload has `length` bytes. The capacity is exact, because a
    /// store keeps what is allocated.
    pub(crate) fn answer(length: usize) -> Self {
        Self::new(KIND_ANSWER, 0, length)
    }

    /// The record of a value whose JSON has `length` bytes.
    pub(crate) fn value(length: usize) -> Self {
        Self::new(KIND_VALUE, 0, length)
    }

    /// The sealed counterpart of a record of this kind whose payload has `length` bytes.
    #[cfg(feature = "seal")]
    pub(super) fn sealed(kind: u8, length: usize) -> Self {
        Self::new(kind, SEALED, length)
    }

    fn new(kind: u8, flags: u8, length: usize) -> Self {
        let mut bytes = Vec::with_capacity(ENVELOPE + length);
        bytes.put_slice(&head(kind, flags));
        bytes.put_u32_le(0);
        Self { bytes }
    }

    /// Where the payload goes.
    pub(crate) fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The record, with its checksum.
    pub(crate) fn checked(mut self) -> Bytes {
        let checksum = checksum(&self.bytes);
        self.bytes[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
        self.bytes.into()
    }

    /// The record without a checksum: this process's memory corrupts nothing.
    pub(crate) fn unchecked(self) -> Bytes {
        self.bytes.into()
    }
}

/// The record of an answer that is too large, or of a form that cannot be stored.
pub(crate) fn not_stored() -> Bytes {
    Draft::new(KIND_NOT_STORED, 0, 0).checked()
}

/// The record of work whose effect is unknown.
pub(crate) fn unknown() -> Bytes {
    Draft::new(KIND_UNKNOWN, 0, 0).checked()
}

/// The status, which an answer begins with.
pub(crate) fn status(answer: &[u8]) -> Option<u16> {
    answer.first_chunk().copied().map(u16::from_le_bytes)
}

/// The decision that a record made by this process stands for.
pub(super) fn decision(record: &[u8]) -> Decision {
    match record.get(KIND) {
        Some(&KIND_NOT_STORED) => Decision::NotStorable,
        Some(&KIND_UNKNOWN) => Decision::Unknown,
        _ => Decision::Stored,
    }
}

fn checksum(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record[..CHECKSUM.start]);
    hasher.update(&record[CHECKSUM.end..]);
    hasher.finalize()
}

/// The bytes before the checksum.
fn head(kind: u8, flags: u8) -> [u8; 5] {
    [MAGIC[0], MAGIC[1], VERSION, kind, flags]
}

/// Reads an unsealed record that came from a store or, if `is_unchecked`, from this process's
/// memory.
pub(crate) fn open(record: Bytes, is_unchecked: bool) -> Result<Record, Unreadable> {
    Envelope::read(record, is_unchecked)?.into_record()
}

/// A record whose envelope has been read.
pub(super) struct Envelope {
    kind: u8,
    flags: u8,
    payload: Bytes,
}

impl Envelope {
    pub(super) fn read(mut record: Bytes, is_unchecked: bool) -> Result<Self, Unreadable> {
        if record.len() < ENVELOPE || record[..2] != MAGIC {
            return Err(Unreadable::Corrupt);
        }
        let (version, kind, flags) = (record[2], record[KIND], record[4]);
        if version != VERSION {
            return Err(Unreadable::UnknownVersion);
        }
        if !is_unchecked && record[CHECKSUM] != checksum(&record).to_le_bytes() {
            return Err(Unreadable::Corrupt);
        }
        record.advance(ENVELOPE);
        Ok(Self { kind, flags, payload: record })
    }

    pub(super) fn into_record(self) -> Result<Record, Unreadable> {
        if self.flags != 0 {
            return Err(Unreadable::UnknownVersion);
        }
        match self.kind {
            KIND_ANSWER => Ok(Record::Answer(self.payload)),
            KIND_VALUE => Ok(Record::Value(self.payload)),
            KIND_NOT_STORED => Ok(Record::NotStored),
            KIND_UNKNOWN => Ok(Record::Unknown),
            _ => Err(Unreadable::UnknownVersion),
        }
    }
}

#[cfg(feature = "seal")]
impl Envelope {
    /// The envelope of this process's own record, which is in plaintext and possibly without a
    /// checksum.
    pub(super) fn of_own(record: &Bytes) -> Self {
        Self { kind: record[KIND], flags: 0, payload: record.slice(ENVELOPE..) }
    }

    pub(super) fn kind(&self) -> u8 {
        self.kind
    }

    pub(super) fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// What is authenticated in addition to a sealed payload of this kind.
    pub(super) fn sealed_head(&self) -> [u8; 5] {
        head(self.kind, SEALED)
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.flags == SEALED
    }

    pub(super) fn is_plain(&self) -> bool {
        self.flags == 0
    }

    /// The same envelope with its payload before sealing.
    pub(super) fn opened(self, payload: Bytes) -> Self {
        Self { payload, flags: 0, ..self }
    }
}
