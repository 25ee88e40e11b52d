//! What the fuzz targets call: the parsers of untrusted input, with the promises that they keep for
//! any input. The property tests call them too.

use ::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use http_body_util::BodyExt as _;

use axum::response::Response;

use crate::{
    engine::{
        Key,
        record::{self, Record, Unreadable},
    },
    http::{
        body::Chunks,
        key,
        policy::{Format, Policy},
        stored,
    },
};

/// Reads a key: the first byte chooses the format, and line feeds separate the header's lines.
///
/// # Panics
///
/// Panics if a promise is broken.
pub fn read_key(data: &[u8]) {
    let Some((format, lines)) = data.split_first() else { return };
    let format = [Format::Uuid, Format::UuidV4, Format::Any][usize::from(*format) % 3];
    let policy = Policy { format, ..Policy::DEFAULT };
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let (name, line) = match line.split_first() {
            Some((b'x', line)) => (&policy.header_names()[1], line),
            _ => (&policy.header_names()[0], line),
        };
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(name, value);
        }
    }
    match key::read(&policy, &headers) {
        Ok(None) => assert!(headers.is_empty(), "an invalid key is taken for a missing one"),
        Err(_) => assert!(!headers.is_empty(), "a missing key is taken for an invalid one"),
        Ok(Some(key)) => {
            let key = key.into_text();
            assert!((1..=255).contains(&key.len()));
            assert!(key.bytes().all(|byte| matches!(byte, b' '..=b'~')));
            assert_eq!(read_quoted(&policy, &key).as_deref(), Some(key.as_str()));
        }
    }
}

/// The key that quoted `key` is read as.
pub(crate) fn read_quoted(policy: &Policy, key: &str) -> Option<String> {
    let quoted = key.replace('\\', r"\\").replace('"', r#"\""#);
    let mut headers = HeaderMap::new();
    let value = HeaderValue::try_from(format!("\"{quoted}\"")).ok()?;
    headers.insert(&policy.header_names()[0], value);
    key::read(policy, &headers).ok()?.map(Key::into_text)
}

/// Decodes a record, both unchanged and in an envelope that marks it as intact.
///
/// # Panics
///
/// Panics if a promise is broken.
pub fn decode_record(data: &[u8]) {
    let _ = decode(Bytes::copy_from_slice(data));
    let Some((kind, payload)) = data.split_first() else { return };
    if let Ok(Some(response)) = decode(seal(*kind, payload)) {
        let (parts, body) = response.into_parts();
        let body = now(body.collect()).expect("a body in memory").to_bytes();
        let chunks = Chunks::from(body.clone());
        let (again, _) = stored::encode(parts.status, &parts.headers, |_| true, &chunks);
        let Ok(Some(same)) = decode(again.checked()) else {
            panic!("what was decoded can be encoded");
        };
        assert_eq!((same.status(), same.headers()), (parts.status, &parts.headers));
        let same = now(same.into_body().collect()).expect("a body in memory").to_bytes();
        assert_eq!(same, body);
    }
}

/// The response in a record, if it holds one.
pub(crate) fn decode(record: Bytes) -> Result<Option<Response>, Unreadable> {
    match record::open(record, false)? {
        Record::Answer(answer) => stored::decode(answer).map(Some).ok_or(Unreadable::Corrupt),
        Record::Value(_) | Record::NotStored | Record::Unknown => Ok(None),
    }
}

/// A record of this version with a correct checksum, around any payload.
pub(crate) fn seal(kind: u8, payload: &[u8]) -> Bytes {
    with_checksum([&[b'i', b'A', 2, kind, 0, 0, 0, 0, 0], payload].concat())
}

/// The record with a correct checksum.
pub(crate) fn with_checksum(mut record: Vec<u8>) -> Bytes {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&record[..5]);
    checksum.update(&record[9..]);
    record[5..9].copy_from_slice(&checksum.finalize().to_le_bytes());
    record.into()
}

/// The result of a future that never waits.
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => unreachable!("a body in memory does not wait"),
    }
}
