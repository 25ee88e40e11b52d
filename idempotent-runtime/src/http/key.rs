//! [`Key`]: the idempotency key, read from the request's headers or given as text.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::visitor::Ignored;
use uuid::{Uuid, Variant};

use super::{
    policy::{Format, Policy},
    problem::Problem,
};
use crate::engine::Fields;

const MAX_LENGTH: usize = 255;

/// An idempotency key, normalised. Nearly all are UUIDs, which take no text.
///
/// Two keys are equal if their texts are.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// Its text is the hyphenated form in lower case.
    Uuid(Uuid),
    /// Any other text.
    Text(Box<str>),
}

impl Key {
    /// The key with this text, as it is.
    pub(crate) fn exact(text: &str) -> Self {
        match parse_hyphenated(text) {
            Some(uuid) if text.bytes().all(|byte| !byte.is_ascii_uppercase()) => Self::Uuid(uuid),
            _ => Self::Text(text.into()),
        }
    }

    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Uuid(uuid) => {
                uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()).to_owned()
            }
            Self::Text(text) => text.into(),
        }
    }

    pub(crate) fn put_into(&self, fields: &mut Fields) {
        let (kind, bytes) = match self {
            Self::Uuid(uuid) => (0, &uuid.as_bytes()[..]),
            Self::Text(text) => (1, text.as_bytes()),
        };
        fields.put_joined(&[&[kind], bytes]);
    }
}

/// The key that `headers` carry, or `None` if they carry none.
///
/// # Errors
///
/// Returns the problem if a header is there but holds no valid key, which is never taken for a
/// missing one, or if several headers hold different keys.
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

/// Parses one header value, bare or a String item (RFC 9651, section 3.3.3).
fn parse(format: Format, value: &HeaderValue) -> Option<Key> {
    let value = value.as_bytes().trim_ascii();
    let text = match value.first()? {
        b'"' => unquote(value)?,
        _ => Cow::Borrowed(std::str::from_utf8(value).ok()?),
    };
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
    parse_hyphenated(text).filter(|uuid| !uuid.is_nil() && !uuid.is_max())
}

fn parse_hyphenated(text: &str) -> Option<Uuid> {
    // Of the forms the crate reads, only the hyphenated one has this length.
    (text.len() == 36).then(|| Uuid::try_parse(text).ok())?
}

fn unquote(value: &[u8]) -> Option<Cow<'_, str>> {
    let mut content = None;
    let visitor = |item| {
        if let sfv::BareItemFromInput::String(string) = item {
            content = Some(string);
        }
        Ok::<_, std::convert::Infallible>(Ignored)
    };
    sfv::Parser::new(value).parse_item_with_visitor(visitor).ok()?;
    Some(match content? {
        Cow::Borrowed(string) => Cow::Borrowed(string.as_str()),
        Cow::Owned(string) => Cow::Owned(string.into()),
    })
}
