//! The record: how a finished request is kept, as bytes that every release can read.
//!
//! ```text
//! magic 2 | version 1 | kind 1 | flags 1 | CRC-32 of all but itself 4 | payload
//! ```
//!
//! Numbers are little endian. `flags` is 0: room for compression and encryption. Release N writes
//! what release N-1 reads; a version, kind or flag this release does not know is told apart from
//! damage, because neither may ever look like an absent key.

use axum::{body::Body, response::Response};
use bytes::{Buf, BufMut, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::body::Chunks;

const MAGIC: [u8; 2] = *b"iA";
const VERSION: u8 = 1;
const CHECKSUM: std::ops::Range<usize> = 5..9;
const ENVELOPE: usize = 9;
/// Of a length in front of a name or a value.
const LENGTH: usize = 4;

const KIND_RESPONSE: u8 = 1;
const KIND_NOT_STORED: u8 = 2;
const KIND_UNKNOWN: u8 = 3;

/// What a record says.
#[derive(Debug)]
pub(crate) enum Record {
    /// The response to replay.
    Response(Response),
    /// The request is done, its response could not be stored.
    NotStored,
    /// Whether the request took effect is unknown.
    Unknown,
}

/// Why a record cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// Written by a release this one does not know.
    UnknownVersion,
    /// Damaged.
    Corrupt,
}

/// Encodes a response; the second value is its body, a slice of the record.
pub(crate) fn response(
    status: StatusCode,
    headers: &HeaderMap,
    is_stored: impl Fn(&HeaderName) -> bool,
    body: &Chunks,
) -> (Bytes, Bytes) {
    let stored = || headers.iter().filter(|(name, _)| is_stored(name));
    let line_length =
        |(name, value): (&HeaderName, &HeaderValue)| 2 * LENGTH + name.as_str().len() + value.len();
    // Exact, because the store keeps what is allocated.
    let (count, lines) =
        stored().fold((0_u32, 0), |(count, sum), line| (count + 1, sum + line_length(line)));
    let body_at = ENVELOPE + 2 + LENGTH + lines;
    let length = body_at + body.len();
    let mut record = begin(KIND_RESPONSE, length);
    record.put_u16_le(status.as_u16());
    record.put_u32_le(count);
    for (name, value) in stored() {
        put_short(&mut record, name.as_str().as_bytes());
        put_short(&mut record, value.as_bytes());
    }
    for chunk in body.iter() {
        record.put_slice(chunk);
    }
    let record = seal(record);
    let body = record.slice(body_at..);
    (record, body)
}

/// The record of a response that is too large, or of a form that cannot be kept.
pub(crate) fn not_stored() -> Bytes {
    empty(KIND_NOT_STORED)
}

/// The record of a request whose effect is unknown.
pub(crate) fn unknown() -> Bytes {
    empty(KIND_UNKNOWN)
}

fn empty(kind: u8) -> Bytes {
    seal(begin(kind, ENVELOPE))
}

fn begin(kind: u8, length: usize) -> Vec<u8> {
    let mut record = Vec::with_capacity(length);
    record.put_slice(&MAGIC);
    record.put_slice(&[VERSION, kind, 0]);
    record.put_u32_le(0);
    record
}

fn seal(mut record: Vec<u8>) -> Bytes {
    let checksum = checksum(&record);
    record[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    record.into()
}

fn checksum(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record[..CHECKSUM.start]);
    hasher.update(&record[CHECKSUM.end..]);
    hasher.finalize()
}

fn put_short(record: &mut Vec<u8>, bytes: &[u8]) {
    // Longer than any header line a server lets through; a longer one would be cut, not misread.
    record.put_u32_le(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    record.put_slice(bytes);
}

/// Reads a record.
pub(crate) fn decode(mut record: Bytes) -> Result<Record, DecodeError> {
    if record.len() < ENVELOPE || record[..2] != MAGIC {
        return Err(DecodeError::Corrupt);
    }
    let (version, kind, flags) = (record[2], record[3], record[4]);
    if version != VERSION {
        return Err(DecodeError::UnknownVersion);
    }
    if record[CHECKSUM] != checksum(&record).to_le_bytes() {
        return Err(DecodeError::Corrupt);
    }
    if flags != 0 {
        return Err(DecodeError::UnknownVersion);
    }
    record.advance(ENVELOPE);
    match kind {
        KIND_RESPONSE => decode_response(record).ok_or(DecodeError::Corrupt).map(Record::Response),
        KIND_NOT_STORED => Ok(Record::NotStored),
        KIND_UNKNOWN => Ok(Record::Unknown),
        _ => Err(DecodeError::UnknownVersion),
    }
}

fn decode_response(mut payload: Bytes) -> Option<Response> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(payload.try_get_u16_le().ok()?).ok()?;
    for _ in 0..payload.try_get_u32_le().ok()? {
        let name = HeaderName::from_bytes(&take_short(&mut payload)?).ok()?;
        let value = HeaderValue::from_maybe_shared(take_short(&mut payload)?).ok()?;
        // More than a map can hold is damage, not a panic.
        response.headers_mut().try_append(name, value).ok()?;
    }
    *response.body_mut() = Body::from(payload);
    Some(response)
}

fn take_short(payload: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(payload.try_get_u32_le().ok()?).ok()?;
    (length <= payload.len()).then(|| payload.split_to(length))
}
