//! Syntax to meaning: what each option says, and whether the item can be a handler.

use std::time::Duration;

use proc_macro2::Span;
use syn::{Expr, ExprLit, FnArg, Lit, LitStr, Path, spanned::Spanned as _};

use crate::parse::{Faults, Function, Options, Strings};

/// What a handler's attribute asks for. `None` is the default.
pub(crate) struct Config {
    pub(crate) ttl: Option<Duration>,
    pub(crate) header: Option<Vec<String>>,
    pub(crate) format: Option<Format>,
    pub(crate) required: bool,
    pub(crate) replay: Option<Replay>,
    pub(crate) wait: Option<Duration>,
    pub(crate) principal: Option<Expr>,
    pub(crate) key: Option<Expr>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) scope: Option<String>,
    pub(crate) krate: Path,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Uuid,
    UuidV4,
    Any,
}

pub(crate) enum Replay {
    All,
    Some { classes: u8, codes: Vec<u16> },
}

pub(crate) enum Fingerprint {
    Request,
    None,
    Expression(Expr),
}

/// A century: longer than any retry, short enough for every store's clock.
const MAX_DURATION: Duration = Duration::from_hours(100 * 365 * 24);

impl Config {
    pub(crate) fn validate(options: Options, faults: &mut Faults) -> Self {
        if options.key.is_some() {
            let excluded = [
                ("header", options.header.as_ref().map(|slot| slot.name)),
                ("format", options.format.as_ref().map(|slot| slot.name)),
                ("required", options.required.as_ref().map(|slot| slot.name)),
            ];
            for (name, span) in excluded {
                if let Some(span) = span {
                    faults.add(syn::Error::new(
                        span,
                        format!("`{name}` is about the key in a header, and `key` takes it from elsewhere: remove `{name}` or `key`"),
                    ));
                }
            }
        }
        let format = options.format.and_then(|slot| {
            let format = check(faults, format(&slot.value))?;
            if format == Format::Any && options.principal.is_none() && options.key.is_none() {
                faults.add(syn::Error::new(slot.value.span(), ANY_NEEDS_PRINCIPAL));
            }
            Some(format)
        });
        let mut duration_of = |slot: Option<crate::parse::Slot<LitStr>>, least| {
            slot.and_then(|slot| check(faults, duration(&slot.value, least)))
        };
        let ttl = duration_of(options.ttl, Duration::from_millis(1));
        let wait = duration_of(options.wait, Duration::ZERO);
        let fingerprint = match options.fingerprint.map(|slot| slot.value) {
            None => Fingerprint::Request,
            Some(Expr::Lit(ExprLit { lit: Lit::Str(text), .. })) => {
                check(faults, fingerprint(&text)).unwrap_or(Fingerprint::Request)
            }
            Some(expression) => Fingerprint::Expression(expression),
        };
        Self {
            ttl,
            header: options.header.map(|slot| headers(&slot.value, faults)),
            format,
            required: options.required.is_some(),
            replay: options.replay.map(|slot| replay(&slot.value, faults)),
            wait,
            principal: options.principal.map(|slot| slot.value),
            key: options.key.map(|slot| slot.value),
            fingerprint,
            scope: options.scope.and_then(|slot| check(faults, scope(&slot.value))),
            krate: options
                .krate
                .map_or_else(|| syn::parse_quote!(::idempotent_axum), |slot| slot.value),
        }
    }
}

const ANY_NEEDS_PRINCIPAL: &str = "with `format = \"any\"` clients may pick keys that others guess, so say whose keys they are: \
     `principal = user.id`, or `principal = \"everyone\"` where all callers are to share them";

fn check<T>(faults: &mut Faults, result: syn::Result<T>) -> Option<T> {
    result.map_err(|fault| faults.add(fault)).ok()
}

fn duration(text: &LitStr, least: Duration) -> syn::Result<Duration> {
    const FORMS: &str = "write a duration such as \"90s\", \"10m\", \"1h 30m\" or \"7d\"";
    let duration = humantime::parse_duration(&text.value())
        .map_err(|error| syn::Error::new(text.span(), format!("{error}: {FORMS}")))?;
    if duration < least {
        return Err(syn::Error::new(
            text.span(),
            format!("a response stored for no time is never replayed: {FORMS}"),
        ));
    }
    if duration > MAX_DURATION {
        return Err(syn::Error::new(text.span(), format!("longer than 100 years: {FORMS}")));
    }
    Ok(duration)
}

fn headers(names: &Strings, faults: &mut Faults) -> Vec<String> {
    if names.values.is_empty() {
        faults.add(syn::Error::new(
            names.span,
            "no header name: write at least one, such as \"idempotency-key\"",
        ));
    }
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
    known
}

/// Why `name` is no field name (RFC 9110, section 5.6.2), if it is none.
fn header_fault(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("empty header name: write one such as \"idempotency-key\"".to_owned());
    }
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let bad = name.chars().find(|c| !is_token(*c))?;
    Some(format!("{bad:?} cannot be in a header name: use letters, digits and `-`"))
}

fn format(text: &LitStr) -> syn::Result<Format> {
    match text.value().as_str() {
        "uuid" => Ok(Format::Uuid),
        "uuid-v4" => Ok(Format::UuidV4),
        "any" => Ok(Format::Any),
        other => Err(syn::Error::new(
            text.span(),
            format!("unknown format `{other}`: write \"uuid\", \"uuid-v4\" or \"any\""),
        )),
    }
}

fn fingerprint(text: &LitStr) -> syn::Result<Fingerprint> {
    match text.value().as_str() {
        "request" => Ok(Fingerprint::Request),
        "none" => Ok(Fingerprint::None),
        other => Err(syn::Error::new(
            text.span(),
            format!(
                "unknown fingerprint `{other}`: write \"request\", \"none\" or an expression over the handler's parameters"
            ),
        )),
    }
}

fn scope(text: &LitStr) -> syn::Result<String> {
    if text.value().is_empty() {
        return Err(syn::Error::new(
            text.span(),
            "empty scope: write the operation's name, such as \"create-payment\", or leave `scope` out",
        ));
    }
    Ok(text.value())
}

fn replay(statuses: &Strings, faults: &mut Faults) -> Replay {
    const FORMS: &str = "write \"all\", a class from \"1xx\" to \"5xx\", a code such as \"409\", or an array of classes and codes";
    if statuses.values.is_empty() {
        faults.add(syn::Error::new(statuses.span, format!("no status: {FORMS}")));
    }
    let (mut classes, mut codes) = (0, Vec::new());
    for text in &statuses.values {
        let value = text.value();
        match (value.as_bytes(), value.parse::<u16>()) {
            (b"all", _) if statuses.values.len() == 1 => return Replay::All,
            (b"all", _) => faults.add(syn::Error::new(
                text.span(),
                "`all` includes every other status: write `replay = \"all\"`, or remove it from the array",
            )),
            ([class @ b'1'..=b'5', b'x', b'x'], _) => classes |= 1 << (class - b'0'),
            (_, Ok(code)) if value.len() == 3 && (100..=599).contains(&code) => codes.push(code),
            _ => faults.add(syn::Error::new(text.span(), format!("`{value}` is no status: {FORMS}"))),
        }
    }
    Replay::Some { classes, codes }
}

/// Whether `function` can be a handler at all.
pub(crate) fn handler(function: &Function, faults: &mut Faults) {
    let signature = &function.signature;
    let mut fault = |span: Span, message: &str| faults.add(syn::Error::new(span, message));
    if signature.asyncness.is_none() {
        fault(signature.fn_token.span, "a handler is an `async fn`: write `async` before `fn`");
    }
    if let Some(token) = &signature.constness {
        fault(token.span(), "a handler cannot be `const`: remove it");
    }
    if let syn::Safety::Unsafe(token) = &signature.safety {
        fault(token.span(), "a handler cannot be `unsafe`: remove it");
    }
    if let Some(abi) = &signature.abi {
        fault(abi.span(), "a handler cannot be `extern`: remove it");
    }
    if let Some(FnArg::Receiver(receiver)) = signature.inputs.first() {
        fault(
            receiver.self_token.span,
            "a handler cannot take `self`: take the value as a parameter, such as `State(service): State<Service>`",
        );
    }
    for attribute in &function.attributes {
        if attribute.path().segments.last().is_some_and(|segment| segment.ident == "idempotent") {
            fault(attribute.span(), "`#[idempotent]` is applied twice: keep one");
        }
    }
}
