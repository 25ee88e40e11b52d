//! The idempotency key in a request's headers.

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::{Uuid, Variant};

use super::{
    policy::{Format, Policy},
    problem::Problem,
};
use crate::engine::Key;

const MAX_LENGTH: usize = 255;

/// The key in `headers`, or `None` if there is none.
///
/// # Errors
///
/// Returns an error if a header is present but holds no valid key, which never counts as a missing
/// one, or if several headers hold different keys.
pub(crate) fn read(policy: &Policy, headers: &HeaderMap) -> Result<Option<Key>, Problem> {
    let mut found: Option<Key> = None;
    for name in policy.header_names() {
        let mut lines = headers.get_all(name).iter();
        let Some(line) = lines.next() else { continue };
        let (None, Some(key)) = (lines.next(), parse(policy.format, line)) else {
            return Err(invalid(policy.format, name));
        };
        match &found {
            Some(other) if *other != key => return Err(Problem::conflicting_keys()),
            _ => found = Some(key),
        }
    }
    Ok(found)
}

fn invalid(format: Format, name: &HeaderName) -> Problem {
    match format {
        Format::Uuid | Format::UuidV4 => Problem::invalid_key(
            "Invalid idempotency key format. The idempotency-key must be a valid UUID",
        ),
        Format::Any => Problem::invalid_key(format!(
            "Invalid idempotency key format. Send one {name} header with 1 to {MAX_LENGTH} printable ASCII characters"
        )),
    }
}

/// Parses one header value, either bare or a String item (RFC 9651, section 3.3.3).
fn parse(format: Format, value: &HeaderValue) -> Option<Key> {
    let text = Key::bare(value.as_bytes())?;
    match format {
        Format::Any => {
            let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            (printable && (1..=MAX_LENGTH).contains(&text.len())).then(|| Key::exact(&text))
        }
        Format::Uuid => parse_uuid(&text).map(Key::Uuid),
        Format::UuidV4 => parse_uuid(&text)
            .filter(|uuid| uuid.get_version_num() == 4 && uuid.get_variant() == Variant::RFC4122)
            .map(Key::Uuid),
    }
}

fn parse_uuid(text: &str) -> Option<Uuid> {
    Key::hyphenated(text).filter(|uuid| !uuid.is_nil() && !uuid.is_max())
}
