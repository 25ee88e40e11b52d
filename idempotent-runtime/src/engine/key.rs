//! [`Key`]: an idempotency key, and the digest that names it in a store.

use std::borrow::Cow;

use sfv::visitor::Ignored;
use uuid::Uuid;

use super::fields::{Digesting, Fields, version};
use crate::store::StoreKey;

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
        match Self::hyphenated(text) {
            Some(uuid) if text.bytes().all(|byte| !byte.is_ascii_uppercase()) => Self::Uuid(uuid),
            _ => Self::Text(text.into()),
        }
    }

    /// The key that a header with this value carries, whichever format it has to have: unquoted, a
    /// UUID in lower case. `None` if no format reads the value.
    pub(crate) fn as_header(value: &str) -> Option<Self> {
        let text = Self::bare(value.as_bytes())?;
        Some(Self::hyphenated(&text).map_or_else(|| Self::exact(&text), Self::Uuid))
    }

    /// The text in a header's value, bare or a String item (RFC 9651, section 3.3.3).
    pub(crate) fn bare(value: &[u8]) -> Option<Cow<'_, str>> {
        let value = value.trim_ascii();
        match value.first()? {
            b'"' => unquote(value),
            _ => std::str::from_utf8(value).ok().map(Cow::Borrowed),
        }
    }

    /// The UUID that `text` is the 36-character form of.
    pub(crate) fn hyphenated(text: &str) -> Option<Uuid> {
        // Of the forms the crate reads, only the hyphenated one has this length.
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

/// The same as [`operation`] of `"method template"`, without the text.
pub(crate) fn route(method: &str, template: &str) -> Fields {
    let mut fields = Fields::new(version::STORE_KEY);
    fields.put_joined(&[b"n", method.as_bytes(), b" ", template.as_bytes()]);
    fields
}

/// The digest of scope, principal and key. No principal is a principal of its own.
pub(crate) fn store_key(scope: &mut Fields, principal: Option<&str>, key: &Key) -> StoreKey {
    match principal {
        Some(principal) => scope.put_joined(&[b"p", principal.as_bytes()]),
        None => scope.put(b""),
    }
    key.put_into(scope);
    StoreKey::from_bytes(scope.digest(Digesting::Stable))
}
