//! Reading the idempotency key from the request's headers.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::visitor::Ignored;
use uuid::{Uuid, Variant};

use crate::{
    policy::{Format, Policy},
    problem::Problem,
};

const MAX_LENGTH: usize = 255;

/// The key that `headers` carry, normalised, or `None` where they carry none.
///
/// # Errors
///
/// A header that is there but holds no valid key is never taken for a missing one; several
/// different keys are refused.
pub(crate) fn read(policy: &Policy, headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut found: Option<String> = None;
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
fn parse(format: Format, value: &HeaderValue) -> Option<String> {
    let value = value.as_bytes().trim_ascii();
    let text = match value.first()? {
        b'"' => unquote(value)?,
        _ => Cow::Borrowed(std::str::from_utf8(value).ok()?),
    };
    match format {
        Format::Any => {
            let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            (printable && (1..=MAX_LENGTH).contains(&text.len())).then(|| text.into_owned())
        }
        Format::Uuid => parse_uuid(&text).map(lower_case),
        Format::UuidV4 => parse_uuid(&text)
            .filter(|uuid| uuid.get_version_num() == 4 && uuid.get_variant() == Variant::RFC4122)
            .map(lower_case),
    }
}

fn parse_uuid(text: &str) -> Option<Uuid> {
    // Of the forms the crate reads, only the hyphenated one has this length.
    let uuid = (text.len() == 36).then(|| Uuid::try_parse(text).ok())??;
    (!uuid.is_nil() && !uuid.is_max()).then_some(uuid)
}

fn lower_case(uuid: Uuid) -> String {
    uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()).to_owned()
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
