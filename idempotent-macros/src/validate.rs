//! Syntax to meaning: what each option says, and whether the item can be a handler.

use std::time::Duration;

use proc_macro2::Span;
use syn::{
    Expr, ExprLit, FnArg, GenericArgument, Lit, LitStr, Pat, Path, PathArguments, PathSegment,
    Type, punctuated::Punctuated, spanned::Spanned as _,
};

use crate::parse::{Faults, Function, Options, Slot, Strings};

/// What a handler's attribute asks for. `None` is the default.
pub(crate) struct Config {
    pub(crate) ttl: Option<Slot<Duration>>,
    pub(crate) header: Option<Slot<Vec<String>>>,
    pub(crate) format: Option<Slot<Format>>,
    pub(crate) required: Option<Slot<()>>,
    pub(crate) replay: Option<Slot<Replay>>,
    pub(crate) wait: Option<Slot<Duration>>,
    pub(crate) principal: Option<Slot<Expr>>,
    pub(crate) key: Option<Slot<Expr>>,
    pub(crate) fingerprint: Option<Slot<Fingerprint>>,
    pub(crate) scope: Option<Slot<String>>,
    pub(crate) krate: Option<Path>,
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
    Expression(Box<Expr>),
}

/// A century: longer than any retry, short enough for every store's clock.
const MAX_DURATION: Duration = Duration::from_hours(100 * 365 * 24);

impl Config {
    pub(crate) fn validate(options: Options, faults: &mut Faults) -> Self {
        if options.key.is_some() {
            let excluded = [
                options.header.as_ref().map(|slot| &slot.name),
                options.format.as_ref().map(|slot| &slot.name),
                options.required.as_ref().map(|slot| &slot.name),
            ];
            for name in excluded.into_iter().flatten() {
                faults.add(syn::Error::new(
                    name.span(),
                    format!("`{name}` is about the key in a header, and `key` takes it from elsewhere: remove `{name}` or `key`"),
                ));
            }
        }
        if let Some(slot) = &options.format
            && slot.value.value() == "any"
            && options.principal.is_none()
            && options.key.is_none()
        {
            faults.add(syn::Error::new(slot.value.span(), ANY_NEEDS_PRINCIPAL));
        }
        let least_ttl = Duration::from_millis(1);
        Self {
            ttl: options.ttl.and_then(|slot| slot.check(faults, |ttl| duration(ttl, least_ttl))),
            header: options.header.and_then(|slot| slot.check(faults, headers)),
            format: options.format.and_then(|slot| slot.check(faults, format)),
            required: options.required,
            replay: options.replay.and_then(|slot| slot.check(faults, replay)),
            wait: options
                .wait
                .and_then(|slot| slot.check(faults, |wait| duration(wait, Duration::ZERO))),
            principal: options.principal,
            key: options.key,
            fingerprint: options.fingerprint.and_then(|slot| slot.check(faults, fingerprint)),
            scope: options.scope.and_then(|slot| slot.check(faults, scope)),
            krate: options.krate.map(|slot| slot.value),
        }
    }

    /// The expressions, all of which see the handler's parameters.
    pub(crate) fn expressions(&self) -> impl Iterator<Item = &Expr> {
        let fingerprint = self.fingerprint.as_ref().and_then(|slot| match &slot.value {
            Fingerprint::Expression(expression) => Some(&**expression),
            Fingerprint::Request | Fingerprint::None => None,
        });
        let [principal, key] = [&self.principal, &self.key].map(|slot| slot.as_ref());
        [principal.map(|slot| &slot.value), key.map(|slot| &slot.value), fingerprint]
            .into_iter()
            .flatten()
    }
}

const ANY_NEEDS_PRINCIPAL: &str = "with `format = \"any\"` clients may pick keys that others guess, so say whose keys they are: \
     `principal = user.id`, or `principal = \"everyone\"` where all callers are to share them";

fn duration(text: &LitStr, least: Duration) -> syn::Result<Duration> {
    const FORMS: &str = "write a duration such as `\"90s\"`, `\"10m\"`, `\"1h 30m\"` or `\"7d\"`";
    let fault = |what: &str| Err(syn::Error::new(text.span(), format!("{what}: {FORMS}")));
    let written = text.value();
    match humantime::parse_duration(&written) {
        Ok(duration) if duration > MAX_DURATION => fault("longer than 100 years"),
        Ok(duration) if duration < least => {
            fault("a response stored for no time is never replayed")
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
        Err(_) => fault(&format!("`{written}` is no duration")),
    }
}

fn headers(names: &Strings) -> syn::Result<Vec<String>> {
    if names.values.is_empty() {
        return Err(syn::Error::new(
            names.span,
            "no header name: write at least one, such as `\"idempotency-key\"`",
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

/// Why `name` is no field name (RFC 9110, section 5.6.2), if it is none.
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

fn format(text: &LitStr) -> syn::Result<Format> {
    match text.value().as_str() {
        "uuid" => Ok(Format::Uuid),
        "uuid-v4" => Ok(Format::UuidV4),
        "any" => Ok(Format::Any),
        other => Err(syn::Error::new(
            text.span(),
            format!("unknown format `{other}`: write `\"uuid\"`, `\"uuid-v4\"` or `\"any\"`"),
        )),
    }
}

fn fingerprint(value: &Expr) -> syn::Result<Fingerprint> {
    let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = ungrouped(value) else {
        return Ok(Fingerprint::Expression(Box::new(value.clone())));
    };
    match text.value().as_str() {
        "request" => Ok(Fingerprint::Request),
        "none" => Ok(Fingerprint::None),
        other => Err(syn::Error::new(
            text.span(),
            format!(
                "unknown fingerprint `{other}`: write `\"request\"`, `\"none\"` or an expression over the handler's parameters"
            ),
        )),
    }
}

fn scope(text: &LitStr) -> syn::Result<String> {
    if text.value().is_empty() {
        return Err(syn::Error::new(
            text.span(),
            "empty scope: write the operation's name, such as `\"create-payment\"`, or leave `scope` out",
        ));
    }
    Ok(text.value())
}

/// A `$value:literal` or `$value:expr` of a macro arrives in an invisible group.
fn ungrouped(mut expression: &Expr) -> &Expr {
    while let Expr::Group(group) = expression {
        expression = &group.expr;
    }
    expression
}

fn replay(statuses: &Strings) -> syn::Result<Replay> {
    const FORMS: &str = "write `\"all\"`, a class from `\"1xx\"` to `\"5xx\"`, a code such as `\"409\"`, or an array of classes and codes";
    if statuses.values.is_empty() {
        return Err(syn::Error::new(statuses.span, format!("no status: {FORMS}")));
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
            _ => fault(format!("`{value}` is no status: {FORMS}")),
        }
    }
    faults.into_result().map(|()| Replay::Some { classes, codes })
}

/// Reports why `function` can be no handler, and repairs it so that no other error follows.
///
/// `None` where it cannot be repaired.
pub(crate) fn handler(mut function: Function, faults: &mut Faults) -> Option<Function> {
    let signature = &mut function.signature;
    let mut fault = |span: Span, message: &str| faults.add(syn::Error::new(span, message));
    if signature.asyncness.is_none() {
        fault(signature.fn_token.span, "a handler is an `async fn`: write `async` before `fn`");
        signature.asyncness = Some(syn::Token![async](signature.fn_token.span));
    }
    if let Some(token) = signature.constness.take() {
        fault(token.span(), "a handler cannot be `const`: remove it");
    }
    if let syn::Safety::Unsafe(token) = &signature.safety {
        fault(token.span(), "a handler cannot be `unsafe`: remove it");
        signature.safety = syn::Safety::Default;
    }
    if let Some(abi) = signature.abi.take() {
        fault(abi.extern_token.span, "a handler cannot be `extern`: remove it");
    }
    function.attributes.retain(|attribute| {
        let Some(name) = attribute.path().segments.last() else { return true };
        let twice = name.ident == "idempotent";
        if twice {
            fault(name.ident.span(), "`#[idempotent]` is applied twice: keep one");
        }
        !twice
    });
    if let Some(FnArg::Receiver(receiver)) = function.signature.inputs.first() {
        fault(
            receiver.self_token.span,
            "a handler cannot take `self`: take the value as a parameter, such as `State(service): State<Service>`",
        );
        return None;
    }
    for parameter in &mut function.signature.inputs {
        if let FnArg::Typed(parameter) = parameter {
            refuse_ref(&mut parameter.pat, faults);
        }
    }
    refuse_parameters(&mut function, faults);
    Some(function)
}

/// Takes `ref` off the bindings of `pattern`: the body, which gets them, outlives what they borrow.
fn refuse_ref(pattern: &mut Pat, faults: &mut Faults) {
    let mut all = |patterns: &mut dyn Iterator<Item = &mut Pat>| {
        patterns.for_each(|pattern| refuse_ref(pattern, faults));
    };
    match pattern {
        Pat::Tuple(tuple) => all(&mut tuple.elems.iter_mut()),
        Pat::TupleStruct(tuple) => all(&mut tuple.elems.iter_mut()),
        Pat::Slice(slice) => all(&mut slice.elems.iter_mut()),
        Pat::Struct(fields) => all(&mut fields.fields.iter_mut().map(|field| &mut *field.pat)),
        Pat::Paren(inner) => refuse_ref(&mut inner.pat, faults),
        Pat::Ident(binding) => {
            if let Some(token) = binding.by_ref.take() {
                let name = &binding.ident;
                let by_value = binding.mutability.map_or("", |_| "mut ");
                faults.add(syn::Error::new(
                    token.span(),
                    format!("a parameter cannot be bound by reference: write `{by_value}{name}`, and borrow it in the body"),
                ));
            }
        }
        _ => {}
    }
}

/// Takes out of the signature what certainly is no extractor where it stands.
///
/// Whether a type is an extractor is known only together with the router's state, and then to the
/// compiler alone; it would say that the whole function is no handler.
fn refuse_parameters(function: &mut Function, faults: &mut Faults) {
    let inputs = &mut function.signature.inputs;
    let unconditional = |parameter: &FnArg| match parameter {
        FnArg::Typed(typed) => {
            !typed.attrs.iter().any(|attribute| attribute.path().is_ident("cfg"))
        }
        FnArg::Receiver(_) => true,
    };
    let last = inputs.iter().rposition(unconditional).unwrap_or(0);
    for (index, parameter) in std::mem::take(inputs).into_iter().enumerate() {
        let FnArg::Typed(typed) = parameter else { continue };
        match parameter_fault(&typed.ty, index < last) {
            Some(fault) => {
                faults.add(fault);
                function.refused.push(typed);
            }
            None => inputs.push(FnArg::Typed(typed)),
        }
    }
}

fn parameter_fault(ty: &Type, more_follow: bool) -> Option<syn::Error> {
    if let Some(borrow) = first_borrow(ty) {
        return Some(syn::Error::new(
            borrow,
            "a parameter cannot borrow, the handler outlives the request: write an owned type, such as `String`",
        ));
    }
    let name = last_segment(ty)?;
    let ident = &name.ident;
    if name.arguments.is_empty() && PRIMITIVES.iter().any(|primitive| ident == primitive) {
        return Some(syn::Error::new(
            ident.span(),
            format!(
                "`{ident}` is no extractor: say what it is taken from, such as `Path(value): Path<{ident}>`, `Query` or `Json`"
            ),
        ));
    }
    let body = match (ident.to_string().as_str(), &name.arguments) {
        ("Option" | "Result", PathArguments::AngleBracketed(arguments)) => {
            match arguments.args.first()? {
                GenericArgument::Type(inner) => &last_segment(inner)?.ident,
                _ => return None,
            }
        }
        _ => ident,
    };
    (more_follow && BODY_EXTRACTORS.iter().any(|extractor| body == extractor)).then(|| {
        syn::Error::new(
            body.span(),
            format!("`{body}` reads the request's body, and only the last parameter can: move it to the end"),
        )
    })
}

const PRIMITIVES: [&str; 17] = [
    "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32",
    "u64", "u128", "usize", "str",
];

/// Those whose name means nothing else. `Request` is left to the compiler: it names many things.
const BODY_EXTRACTORS: [&str; 8] =
    ["Body", "Bytes", "Form", "Json", "JsonLines", "Multipart", "RawForm", "String"];

fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(path) if path.qself.is_none() => path.path.segments.last(),
        Type::Group(group) => last_segment(&group.elem),
        Type::Paren(paren) => last_segment(&paren.elem),
        _ => None,
    }
}

/// Where `ty` borrows for less than `'static`.
fn first_borrow(ty: &Type) -> Option<Span> {
    let any = |types: &Punctuated<Type, _>| types.iter().find_map(first_borrow);
    match ty {
        Type::Reference(reference) => match &reference.lifetime {
            Some(lifetime) if lifetime.ident == "static" => first_borrow(&reference.elem),
            _ => Some(reference.and_token.span),
        },
        Type::Path(path) => path.path.segments.iter().find_map(|segment| {
            let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
            arguments.args.iter().find_map(|argument| match argument {
                GenericArgument::Type(ty) => first_borrow(ty),
                _ => None,
            })
        }),
        Type::Tuple(tuple) => any(&tuple.elems),
        Type::Array(array) => first_borrow(&array.elem),
        Type::Slice(slice) => first_borrow(&slice.elem),
        Type::Paren(paren) => first_borrow(&paren.elem),
        Type::Group(group) => first_borrow(&group.elem),
        _ => None,
    }
}
