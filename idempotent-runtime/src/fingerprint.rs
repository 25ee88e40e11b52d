//! What makes two requests with one key the same request.

use std::{borrow::Cow, hash::Hasher};

use axum::extract::{OriginalUri, Request};
use http::{HeaderMap, Uri, header};

use crate::digest::{Fields, Fingerprint, version};

/// The fingerprint of requests whose attribute says `fingerprint = "none"`.
pub(crate) fn none() -> Fingerprint {
    Fingerprint::from_bytes([0; 16])
}

/// The fingerprint of a whole request: method, path, query, content type and body.
pub(crate) fn of_request<B>(request: &Request<B>, body: &[u8]) -> Fingerprint {
    let uri = full_uri(request);
    let mut fields = Fields::new(version::REQUEST_FINGERPRINT);
    fields.put(request.method().as_str().as_bytes());
    fields.put(uri.path().as_bytes());
    // No query and an empty one are different requests.
    fields.put(&[u8::from(uri.query().is_some())]);
    fields.put(uri.query().unwrap_or_default().as_bytes());
    fields.put(&content_type_essence(request.headers()));
    fields.put(body);
    fields.hash().into()
}

/// The fingerprint of a request's method and path.
pub(crate) fn of_path<B>(request: &Request<B>) -> Fingerprint {
    let mut fields = Fields::new(version::REQUEST_FINGERPRINT);
    fields.put(request.method().as_str().as_bytes());
    fields.put(full_uri(request).path().as_bytes());
    fields.hash().into()
}

/// The request's URI as the client sent it: nested routers see only their part of it.
pub(crate) fn full_uri<B>(request: &Request<B>) -> &Uri {
    request.extensions().get::<OriginalUri>().map_or(request.uri(), |original| &original.0)
}

/// The media type without parameters, in lower case (RFC 9110, section 8.3.1).
fn content_type_essence(headers: &HeaderMap) -> Cow<'_, [u8]> {
    let value = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if essence.iter().any(u8::is_ascii_uppercase) {
        Cow::Owned(essence.to_ascii_lowercase())
    } else {
        Cow::Borrowed(essence)
    }
}

/// A [`Hasher`] that gives the same result in every process and on every machine: fixed width,
/// little endian, BLAKE3.
#[derive(Debug)]
pub struct StableHasher(blake3::Hasher);

impl StableHasher {
    pub(crate) fn new() -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[version::EXPRESSION_FINGERPRINT]);
        Self(hasher)
    }

    pub(crate) fn finish(&self) -> Fingerprint {
        self.0.finalize().into()
    }
}

macro_rules! write_little_endian {
    ($($name:ident($int:ty)),*) => {
        $(fn $name(&mut self, value: $int) {
            self.0.update(&value.to_le_bytes());
        })*
    };
}

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    write_little_endian!(
        write_u8(u8),
        write_u16(u16),
        write_u32(u32),
        write_u64(u64),
        write_u128(u128),
        write_i8(i8),
        write_i16(i16),
        write_i32(i32),
        write_i64(i64),
        write_i128(i128)
    );

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_i64(value as i64);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.finalize();
        let (first, _) = digest.as_bytes().split_at(8);
        first.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }
}
