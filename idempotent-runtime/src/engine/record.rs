//! The record: how finished work is kept, as bytes that every release can read.
//!
//! ```text
//! magic 2 | version 1 | kind 1 | flags 1 | CRC-32 of all but itself 4 | payload
//! ```
//!
//! Numbers are little endian. `flags` is 0: room for compression and encryption. Release N writes
//! what release N-1 reads; a version, kind or flag that this release does not know is told apart
//! from damage, because neither may ever look like an absent key.

use bytes::{Buf as _, BufMut as _, Bytes};

use super::event::Decision;

const MAGIC: [u8; 2] = *b"iA";
const VERSION: u8 = 2;
const CHECKSUM: std::ops::Range<usize> = 5..9;
/// How many bytes stand before the payload.
pub(crate) const ENVELOPE: usize = 9;

const KIND_ANSWER: u8 = 1;
const KIND_NOT_STORED: u8 = 2;
const KIND_UNKNOWN: u8 = 3;
const KIND_VALUE: u8 = 4;

/// What a record says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// The answer to replay. It begins with its status, a number of two bytes.
    Answer(Bytes),
    /// The value to give back, as JSON.
    Value(Bytes),
    /// The work is done, its answer could not be stored.
    NotStored,
    /// Whether the work took effect is not known.
    Unknown,
}

/// What a job's work gives, and expects of a record.
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
    /// Damaged.
    Corrupt,
}

/// A record that is being written.
pub(crate) struct Draft {
    bytes: Vec<u8>,
}

impl Draft {
    /// The record of an answer whose payload has `length` bytes. Exact, because a store keeps what
    /// is allocated.
    pub(crate) fn answer(length: usize) -> Self {
        Self::new(KIND_ANSWER, length)
    }

    /// The record of a value whose JSON has `length` bytes.
    pub(crate) fn value(length: usize) -> Self {
        Self::new(KIND_VALUE, length)
    }

    fn new(kind: u8, length: usize) -> Self {
        let mut bytes = Vec::with_capacity(ENVELOPE + length);
        bytes.put_slice(&[MAGIC[0], MAGIC[1], VERSION, kind, 0, 0, 0, 0, 0]);
        Self { bytes }
    }

    /// Where the payload goes.
    pub(crate) fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The record, with its checksum.
    pub(crate) fn seal(mut self) -> Bytes {
        let checksum = checksum(&self.bytes);
        self.bytes[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
        self.bytes.into()
    }

    /// The record for a store in this process's memory, which damages nothing.
    pub(crate) fn seal_unchecked(self) -> Bytes {
        self.bytes.into()
    }
}

/// The record of an answer that is too large, or of a form that cannot be kept.
pub(crate) fn not_stored() -> Bytes {
    Draft::new(KIND_NOT_STORED, 0).seal()
}

/// The record of work whose effect is not known.
pub(crate) fn unknown() -> Bytes {
    Draft::new(KIND_UNKNOWN, 0).seal()
}

/// What an answer says of itself first.
pub(crate) fn status(answer: &[u8]) -> Option<u16> {
    answer.first_chunk().copied().map(u16::from_le_bytes)
}

/// What a record that this process has made is.
pub(super) fn decision(record: &[u8]) -> Decision {
    match record.get(3) {
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

/// Reads a record, which a store gave back or, if `is_unchecked`, this process's memory.
pub(crate) fn open(mut record: Bytes, is_unchecked: bool) -> Result<Record, Unreadable> {
    if record.len() < ENVELOPE || record[..2] != MAGIC {
        return Err(Unreadable::Corrupt);
    }
    let (version, kind, flags) = (record[2], record[3], record[4]);
    if version != VERSION {
        return Err(Unreadable::UnknownVersion);
    }
    if !is_unchecked && record[CHECKSUM] != checksum(&record).to_le_bytes() {
        return Err(Unreadable::Corrupt);
    }
    if flags != 0 {
        return Err(Unreadable::UnknownVersion);
    }
    match kind {
        KIND_ANSWER => {
            record.advance(ENVELOPE);
            Ok(Record::Answer(record))
        }
        KIND_VALUE => {
            record.advance(ENVELOPE);
            Ok(Record::Value(record))
        }
        KIND_NOT_STORED => Ok(Record::NotStored),
        KIND_UNKNOWN => Ok(Record::Unknown),
        _ => Err(Unreadable::UnknownVersion),
    }
}
