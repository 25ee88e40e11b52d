//! A stored response: its bytes, and the replay built from them.
//!
//! ```text
//! status 2 | count of header lines 4 | lines | body
//! a line: 1 if it is sensitive, else 0 | length of the name 2 | length of the value 4 | name | value
//! ```
//!
//! Numbers are little-endian. The record around it carries the version.

use axum::{body::Body, response::Response};
use bytes::{Buf as _, BufMut as _, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::body::Chunks;
use crate::engine::record::{Draft, ENVELOPE};

/// Marks a replay.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Length of status and count.
const HEAD: usize = 2 + 4;
/// Length of a line without its name and value.
const LINE: usize = 1 + 2 + 4;

/// Encodes a response. The second value is where its body begins in the record.
pub(crate) fn encode(
    status: StatusCode,
    headers: &HeaderMap,
    is_stored: impl Fn(&HeaderName) -> bool,
    body: &Chunks,
) -> (Draft, usize) {
    let lines = || headers.iter().filter(|(name, _)| is_stored(name));
    let (count, length) = lines().fold((0, 0), |(count, length), (name, value)| {
        (count + 1, length + LINE + name.as_str().len() + value.len())
    });
    let body_at = HEAD + length;
    let mut draft = Draft::answer(body_at + body.len());
    let payload = draft.payload();
    payload.put_u16_le(status.as_u16());
    payload.put_u32_le(count);
    for (name, value) in lines() {
        let name = name.as_str().as_bytes();
        payload.put_u8(u8::from(value.is_sensitive()));
        // `http` does not allow longer names; if one came, it would be cut and then fail to decode.
        payload.put_u16_le(u16::try_from(name.len()).unwrap_or(u16::MAX));
        payload.put_u32_le(u32::try_from(value.len()).unwrap_or(u32::MAX));
        payload.put_slice(name);
        payload.put_slice(value.as_bytes());
    }
    for chunk in body.iter() {
        payload.put_slice(chunk);
    }
    (draft, ENVELOPE + body_at)
}

/// Reads a response; `None` if the bytes are damaged.
pub(crate) fn decode(mut payload: Bytes) -> Option<Response> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(payload.try_get_u16_le().ok()?).ok()?;
    let count = payload.try_get_u32_le().ok()?;
    for _ in 0..count {
        let is_sensitive = match payload.try_get_u8().ok()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let name_length = usize::from(payload.try_get_u16_le().ok()?);
        let value_length = usize::try_from(payload.try_get_u32_le().ok()?).ok()?;
        let name = HeaderName::from_bytes(payload.get(..name_length)?).ok()?;
        payload.advance(name_length);
        if value_length > payload.len() {
            return None;
        }
        let mut value = HeaderValue::from_maybe_shared(payload.split_to(value_length)).ok()?;
        value.set_sensitive(is_sensitive);
        // More headers than a map can hold count as damage instead of panicking.
        response.headers_mut().try_append(name, value).ok()?;
    }
    *response.body_mut() = Body::from(payload);
    Some(response)
}

/// The status of a stored response.
pub(super) fn status(mut payload: &[u8]) -> Option<u16> {
    payload.try_get_u16_le().ok()
}

/// The replay of a stored response.
pub(super) fn replay(mut response: Response) -> Response {
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
