//! What an option's value means. An invalid value is rejected with a list of all valid forms.

use std::time::Duration;

use proc_macro2::Span;
use syn::{Expr, ExprLit, Lit, LitStr};

use super::grammar::Strings;
use crate::faults::Faults;

/// Which keys are valid.
#[derive(Clone, Copy)]
pub(crate) enum Format {
    Uuid,
    UuidV4,
    /// With the span of the value.
    Any(Span),
}

/// Which responses are stored.
pub(crate) enum Replay {
    All,
    Some { classes: u8, codes: Vec<u16> },
}

/// What two requests with the same key must have in common.
pub(crate) enum Fingerprint {
    Request,
    Json,
    Path,
    None,
    Expression(Box<Expr>),
}

impl Fingerprint {
    pub(crate) fn expression(&self) -> Option<&Expr> {
        match self {
            Self::Expression(expression) => Some(expression),
            Self::Request | Self::Json | Self::Path | Self::None => None,
        }
    }
}

/// A century: longer than any retry, and short enough for every store's clock.
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

#[expect(clippy::unnecessary_wraps, reason = "as the other meanings")]
pub(super) fn as_written<T: Clone>(value: &T) -> syn::Result<T> {
    Ok(value.clone())
}

pub(super) fn ttl(text: &LitStr) -> syn::Result<Duration> {
    duration(text, Duration::from_millis(1))
}

pub(super) fn wait(text: &LitStr) -> syn::Result<Duration> {
    duration(text, Duration::ZERO)
}

fn duration(text: &LitStr, least: Duration) -> syn::Result<Duration> {
    const FORMS: &str = "write a duration such as `\"90s\"`, `\"10m\"`, `\"1h 30m\"` or `\"7d\"`";
    let fault = |what: &str| Err(syn::Error::new(text.span(), format!("{what}: {FORMS}")));
    let written = text.value();
    match humantime::parse_duration(&written) {
        Ok(duration) if duration > MAX_DURATION => fault("longer than 100 years"),
        Ok(duration) if duration < least => {
            fault("a response with a ttl of zero is never replayed")
        }
        Ok(duration) => Ok(duration),
        Err(humantime::DurationError::Empty) => fault("empty duration"),
        Err(humantime::DurationError::NumberOverflow) => fault("longer than 100 years"),
        Err(humantime::DurationError::UnknownUnit { unit, value, .. }) if unit.is_empty() => {
            fault(&format!("`{value}` has no unit"))
        }
        Err(humantime::DurationError::UnknownUnit { unit, .. }) => {
            fault(&format!("unknown unit `{unit}`"))
        }
        Err(_) => fault(&format!("`{written}` is not a duration")),
    }
}

pub(super) fn headers(names: &Strings) -> syn::Result<Vec<String>> {
    if names.values.is_empty() {
        return Err(syn::Error::new(
            names.span,
            "no header name given: write at least one, such as `\"idempotency-key\"`",
        ));
    }
    let mut faults = Faults::default();
    let mut known: Vec<String> = Vec::new();
    for name in &names.values {
        let lower = name.value().to_ascii_lowercase();
        if let Some(fault) = header_fault(&lower) {
            faults.add(syn::Error::new(name.span(), fault));
        } else if known.contains(&lower) {
            faults
                .add(syn::Error::new(name.span(), format!("`{lower}` is listed twice: keep one")));
        } else {
            known.push(lower);
        }
    }
    faults.into_result().map(|()| known)
}

/// Why `name` is not a field name (RFC 9110, section 5.6.2), if it is not.
fn header_fault(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("empty header name: write one such as `\"idempotency-key\"`".to_owned());
    }
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let bad = name.chars().find(|c| !is_token(*c))?;
    Some(format!(
        "`{}` cannot be in a header name: use letters, digits and `-`",
        bad.escape_debug()
    ))
}

pub(super) fn format(text: &LitStr) -> syn::Result<Format> {
    match text.value().as_str() {
        "uuid" => Ok(Format::Uuid),
        "uuid-v4" => Ok(Format::UuidV4),
        "any" => Ok(Format::Any(text.span())),
        other => Err(syn::Error::new(
            text.span(),
            format!("unknown format `{other}`: write `\"uuid\"`, `\"uuid-v4\"` or `\"any\"`"),
        )),
    }
}

pub(super) fn replay(statuses: &Strings) -> syn::Result<Replay> {
    const FORMS: &str = "write `\"all\"`, a class from `\"1xx\"` to `\"5xx\"`, a code such as `\"409\"`, or an array of classes and codes";
    if statuses.values.is_empty() {
        return Err(syn::Error::new(statuses.span, format!("no status given: {FORMS}")));
    }
    let mut faults = Faults::default();
    let (mut classes, mut codes) = (0, Vec::new());
    for text in &statuses.values {
        let mut fault = |message| faults.add(syn::Error::new(text.span(), message));
        let value = text.value();
        match (value.as_bytes(), value.parse::<u16>()) {
            (b"all", _) if statuses.values.len() == 1 => return Ok(Replay::All),
            (b"all", _) => fault(
                "`all` includes every other status: write `replay = \"all\"`, or remove it from the array".to_owned(),
            ),
            ([class @ b'1'..=b'5', b'x', b'x'], _) => {
                let class = 1 << (class - b'0');
                if classes & class != 0 {
                    fault(format!("`{value}` is listed twice: keep one"));
                }
                classes |= class;
            }
            (_, Ok(code)) if value.len() == 3 && (100..=599).contains(&code) => {
                if codes.contains(&code) {
                    fault(format!("`{value}` is listed twice: keep one"));
                }
                codes.push(code);
            }
            (b"", _) => fault(format!("empty status: {FORMS}")),
            _ => fault(format!("`{value}` is not a status: {FORMS}")),
        }
    }
    faults.into_result().map(|()| Replay::Some { classes, codes })
}

pub(super) fn fingerprint(value: &Expr) -> syn::Result<Fingerprint> {
    let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = ungrouped(value) else {
        return Ok(Fingerprint::Expression(Box::new(value.clone())));
    };
    match text.value().as_str() {
        "request" => Ok(Fingerprint::Request),
        "json" => Ok(Fingerprint::Json),
        "path" => Ok(Fingerprint::Path),
        "none" => Ok(Fingerprint::None),
        other => Err(syn::Error::new(
            text.span(),
            format!(
                "unknown fingerprint `{other}`: write `\"request\"`, `\"json\"`, `\"path\"`, `\"none\"` or an expression over the handler's parameters"
            ),
        )),
    }
}

/// A macro's `$value:literal` or `$value:expr` arrives in an invisible group.
fn ungrouped(mut expression: &Expr) -> &Expr {
    while let Expr::Group(group) = expression {
        expression = &group.expr;
    }
    expression
}

pub(super) fn scope(text: &LitStr) -> syn::Result<String> {
    if text.value().is_empty() {
        return Err(syn::Error::new(
            text.span(),
            "empty scope: write the operation's name, such as `\"create-payment\"`, or leave `scope` out",
        ));
    }
    Ok(text.value())
}
