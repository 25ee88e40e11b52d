//! [`Key`]: an idempotency key, and the digest that identifies it in a store.

use std::borrow::Cow;

use sfv::visitor::Ignored;
use uuid::Uuid;

use super::fields::{Digesting, Fields, version};
use crate::store::StoreKey;

/// A normalised idempotency key. Nearly all are UUIDs, which need no string.
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
    /// The key with exactly this text.
    pub(crate) fn exact(text: &str) -> Self {
        match Self::hyphenated(text) {
            Some(uuid) if text.bytes().all(|byte| !byte.is_ascii_uppercase()) => Self::Uuid(uuid),
            _ => Self::Text(text.into()),
        }
    }

    /// The key in a header with this value, whichever format is required: unquoted, a UUID in lower
    /// case. `None` if the value is invalid in every format.
    pub(crate) fn as_header(value: &str) -> Option<Self> {
        let text = Self::bare(value.as_bytes())?;
        Some(Self::hyphenated(&text).map_or_else(|| Self::exact(&text), Self::Uuid))
    }

    /// The text in a header value, either bare or a String item (RFC 9651, section 3.3.3).
    pub(crate) fn bare(value: &[u8]) -> Option<Cow<'_, str>> {
        let value = value.trim_ascii();
        match value.first()? {
            b'"' => unquote(value),
            _ => std::str::from_utf8(value).ok().map(Cow::Borrowed),
        }
    }

    /// The UUID whose 36-character form is `text`.
    pub(crate) fn hyphenated(text: &str) -> Option<Uuid> {
        // Of the forms that the crate parses, only the hyphenated one has this length.
        (text.len() == 36).then(|| Uuid::try_parse(text).ok())?
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Text(text) if text.is_empty())
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

/// The operation with this name: the first fields of a digest.
pub(crate) fn operation(name: &str) -> Fields {
    let mut fields = Fields::new(version::STORE_KEY);
    fields.put_joined(&[b"n", name.as_bytes()]);
    fields
}

/// The same as [`operation`] of `"method template"`, without building the string.
pub(crate) fn route(method: &str, template: &str) -> Fields {
    let mut fields = Fields::new(version::STORE_KEY);
    fields.put_joined(&[b"n", method.as_bytes(), b" ", template.as_bytes()]);
    fields
}

/// The digest of scope, principal and key. "No principal" is itself a principal.
pub(crate) fn store_key(
    scope: &mut Fields,
    principal: Option<&str>,
    key: &Key,
    digesting: &Digesting,
) -> StoreKey {
    match principal {
        Some(principal) => scope.put_joined(&[b"p", principal.as_bytes()]),
        None => scope.put(b""),
    }
    key.put_into(scope);
    StoreKey::from_bytes(scope.digest(digesting))
}
