//! What makes two requests with the same key the same request.

mod json;
mod multipart;

use std::borrow::Cow;

use axum::extract::Request;
use http::{HeaderMap, Method, Uri, header};

use super::{policy::FingerprintSource, target::Target};
use crate::{
    engine::{Digest, Digesting, Fields, Key, version},
    store::Fingerprint,
};

/// A fingerprint still without an expression's value and without the key, which is its salt:
/// without the key, nobody who finds a fingerprint in a store can search for the request behind it.
pub(crate) struct Unsalted {
    /// `None` if every request with the key counts as the same.
    fields: Option<Fields>,
    digesting: Digesting,
}

impl Unsalted {
    pub(crate) fn from_request<B>(
        source: FingerprintSource,
        digesting: Digesting,
        request: &Request<B>,
        body: &[u8],
    ) -> Self {
        let fields = match source {
            FingerprintSource::None => None,
            FingerprintSource::Path => Some(with_path(version::PATH_FINGERPRINT, request)),
            FingerprintSource::Expression => {
                Some(with_path(version::EXPRESSION_FINGERPRINT, request))
            }
            FingerprintSource::Request => Some(whole(request, body, &digesting)),
            FingerprintSource::Json => Some(
                by_value(request, body, &digesting)
                    .unwrap_or_else(|| whole(request, body, &digesting)),
            ),
        };
        Self { fields, digesting }
    }

    pub(crate) fn salted(self, expression: Option<Digest>, key: &Key) -> Fingerprint {
        let Some(mut fields) = self.fields else { return Fingerprint::from_bytes([0; 16]) };
        if let Some(digest) = expression {
            fields.put(&digest);
        }
        key.put_into(&mut fields);
        Fingerprint::from_bytes(fields.digest(&self.digesting))
    }
}

/// Method and full path.
fn with_path<B>(version: u8, request: &Request<B>) -> Fields {
    path_of(version, request.method(), Target::uri(request))
}

fn path_of(version: u8, method: &Method, uri: &Uri) -> Fields {
    let mut fields = Fields::new(version);
    fields.put(method.as_str().as_bytes());
    fields.put(uri.path().as_bytes());
    fields
}

/// Method, full path, query and content type.
fn with_query<B>(version: u8, request: &Request<B>) -> Fields {
    let uri = Target::uri(request);
    let mut fields = path_of(version, request.method(), uri);
    // No query and an empty query are different requests.
    match uri.query() {
        Some(query) => fields.put_joined(&[b"?", query.as_bytes()]),
        None => fields.put(b""),
    }
    fields.put(&essence(content_type(request.headers())));
    fields
}

/// The body by its bytes, or by its parts if it is a form in strict form.
fn whole<B>(request: &Request<B>, body: &[u8], digesting: &Digesting) -> Fields {
    let content_type = content_type(request.headers());
    let Some(parts) = multipart::parts(content_type, body) else {
        let mut fields = with_query(version::REQUEST_FINGERPRINT, request);
        put_long(&mut fields, body, digesting);
        if essence(content_type).starts_with(b"multipart/") {
            // The same bytes are a different form under a different boundary.
            fields.put(content_type);
        }
        return fields;
    };
    let mut fields = with_query(version::MULTIPART_FINGERPRINT, request);
    fields.put(&(parts.len() as u64).to_le_bytes());
    for part in parts {
        put_long(&mut fields, part, digesting);
    }
    fields
}

/// A JSON body by its value; `None` if it is not JSON, or no form keeps its value.
fn by_value<B>(request: &Request<B>, body: &[u8], digesting: &Digesting) -> Option<Fields> {
    let essence = essence(content_type(request.headers()));
    if *essence != *b"application/json" && !essence.ends_with(b"+json") {
        return None;
    }
    let form = json::canonical(body)?;
    let mut fields = with_query(version::JSON_FINGERPRINT, request);
    put_long(&mut fields, &form, digesting);
    Some(fields)
}

/// Adds `bytes`, or their digest if they are long, so that they are hashed in place.
fn put_long(fields: &mut Fields, bytes: &[u8], digesting: &Digesting) {
    const COPIED: usize = 128;
    if bytes.len() <= COPIED {
        fields.put_joined(&[b"b", bytes]);
    } else {
        fields.put_joined(&[b"d", &digesting.digest(bytes)]);
    }
}

fn content_type(headers: &HeaderMap) -> &[u8] {
    headers.get(header::CONTENT_TYPE).map_or(b"", |value| value.as_bytes())
}

/// The media type without parameters, in lower case (RFC 9110, section 8.3.1).
pub(super) fn essence(content_type: &[u8]) -> Cow<'_, [u8]> {
    // The most common value.
    if content_type == b"application/json" {
        return Cow::Borrowed(content_type);
    }
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if essence.iter().any(u8::is_ascii_uppercase) {
        Cow::Owned(essence.to_ascii_lowercase())
    } else {
        Cow::Borrowed(essence)
    }
}
