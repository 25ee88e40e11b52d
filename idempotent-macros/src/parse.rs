//! Tokens to syntax: the attribute's options with their spans, and the item below it.
//!
//! Nothing is judged here but the grammar. An option that cannot be parsed is reported and skipped,
//! so that the ones behind it are still checked.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{
    Attribute, Expr, Ident, LitStr, Path, Signature, Token, Visibility, braced, bracketed,
    ext::IdentExt as _,
    parse::{Parse, ParseStream},
    token::{Brace, Bracket},
};

/// The names of all options, in the order of the documentation.
const NAMES: [&str; 11] = [
    "ttl",
    "header",
    "format",
    "required",
    "replay",
    "wait",
    "principal",
    "key",
    "fingerprint",
    "scope",
    "crate",
];

/// Faults found so far; all of them are reported together.
#[derive(Default)]
pub(crate) struct Faults(Option<syn::Error>);

impl Faults {
    pub(crate) fn add(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            None => self.0 = Some(error),
        }
    }

    pub(crate) fn into_result(self) -> syn::Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

/// An option's value, and where its name stands.
pub(crate) struct Slot<T> {
    pub(crate) name: Span,
    pub(crate) value: T,
}

/// One string, or an array of strings.
pub(crate) struct Strings {
    pub(crate) values: Vec<LitStr>,
    /// Where the whole value stands.
    pub(crate) span: Span,
}

/// The options as they are written.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) ttl: Option<Slot<LitStr>>,
    pub(crate) header: Option<Slot<Strings>>,
    pub(crate) format: Option<Slot<LitStr>>,
    pub(crate) required: Option<Slot<()>>,
    pub(crate) replay: Option<Slot<Strings>>,
    pub(crate) wait: Option<Slot<LitStr>>,
    pub(crate) principal: Option<Slot<Expr>>,
    pub(crate) key: Option<Slot<Expr>>,
    pub(crate) fingerprint: Option<Slot<Expr>>,
    pub(crate) scope: Option<Slot<LitStr>>,
    pub(crate) krate: Option<Slot<Path>>,
}

impl Options {
    /// Parses the attribute's arguments.
    pub(crate) fn parse(arguments: TokenStream, faults: &mut Faults) -> Self {
        let mut options = Self::default();
        let parser = |input: ParseStream<'_>| {
            while !input.is_empty() {
                if let Err(fault) = options.parse_one(input) {
                    faults.add(fault);
                    skip_to_comma(input);
                }
                if !input.is_empty()
                    && let Err(fault) = input.parse::<Token![,]>()
                {
                    faults.add(syn::Error::new(fault.span(), "expected `,` between two options"));
                    skip_to_comma(input);
                    let _ = input.parse::<Token![,]>();
                }
            }
            Ok(())
        };
        if let Err(fault) = syn::parse::Parser::parse2(parser, arguments) {
            faults.add(fault);
        }
        options
    }

    fn parse_one(&mut self, input: ParseStream<'_>) -> syn::Result<()> {
        if !input.peek(Ident::peek_any) {
            return Err(input.error(format!("expected an option: {}", list(NAMES))));
        }
        let name = input.call(Ident::parse_any)?;
        match name.to_string().as_str() {
            "ttl" => put(&mut self.ttl, &name, input, string, "a duration such as \"1h\""),
            "header" => {
                let expected = "a header name such as \"idempotency-key\", or an array of names";
                put(&mut self.header, &name, input, strings, expected)
            }
            "format" => {
                put(&mut self.format, &name, input, string, "\"uuid\", \"uuid-v4\" or \"any\"")
            }
            "required" if input.peek(Token![=]) => {
                Err(input
                    .error("`required` takes no value: write `required` alone, or leave it out"))
            }
            "required" => fill(&mut self.required, &name, ()),
            "replay" => {
                let expected = "\"all\", a status such as \"2xx\" or \"409\", or an array of them";
                put(&mut self.replay, &name, input, strings, expected)
            }
            "wait" => put(&mut self.wait, &name, input, string, "a duration such as \"10s\""),
            "principal" => {
                let expected = "an expression over the handler's parameters, such as `user.id`";
                put(&mut self.principal, &name, input, expression, expected)
            }
            "key" => {
                let expected = "an expression over the handler's parameters, such as `event.id`";
                put(&mut self.key, &name, input, expression, expected)
            }
            "fingerprint" => {
                let expected =
                    "\"request\", \"none\" or an expression over the handler's parameters";
                put(&mut self.fingerprint, &name, input, expression, expected)
            }
            "scope" => {
                let expected = "the operation's name, such as \"create-payment\"";
                put(&mut self.scope, &name, input, string, expected)
            }
            "crate" => {
                let expected = "the path of the library, such as `my_deps::idempotent_axum`";
                put(&mut self.krate, &name, input, path, expected)
            }
            unknown => Err(syn::Error::new(name.span(), unknown_option(unknown))),
        }
    }
}

fn unknown_option(name: &str) -> String {
    let similarity = |known: &&str| strsim::jaro_winkler(name, known);
    let nearest = NAMES.into_iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    match nearest.filter(|known| similarity(known) >= 0.75) {
        Some(nearest) => format!("unknown option `{name}`: did you mean `{nearest}`?"),
        None => format!("unknown option `{name}`: expected one of {}", list(NAMES)),
    }
}

fn list<const N: usize>(names: [&str; N]) -> String {
    names.map(|name| format!("`{name}`")).join(", ")
}

/// Parses `= value` into `slot`.
fn put<T>(
    slot: &mut Option<Slot<T>>,
    name: &Ident,
    input: ParseStream<'_>,
    parse: fn(ParseStream<'_>, &str) -> syn::Result<T>,
    expected: &str,
) -> syn::Result<()> {
    if !input.peek(Token![=]) {
        return Err(syn::Error::new(
            name.span(),
            format!("`{name}` needs a value: `{name} = …`, {expected}"),
        ));
    }
    input.parse::<Token![=]>()?;
    let value = parse(input, expected)?;
    fill(slot, name, value)
}

fn fill<T>(slot: &mut Option<Slot<T>>, name: &Ident, value: T) -> syn::Result<()> {
    if slot.is_some() {
        return Err(syn::Error::new(name.span(), format!("`{name}` is given twice: keep one")));
    }
    *slot = Some(Slot { name: name.span(), value });
    Ok(())
}

fn string(input: ParseStream<'_>, expected: &str) -> syn::Result<LitStr> {
    input
        .parse()
        .map_err(|error: syn::Error| syn::Error::new(error.span(), format!("expected {expected}")))
}

fn strings(input: ParseStream<'_>, expected: &str) -> syn::Result<Strings> {
    if !input.peek(Bracket) {
        let value = string(input, expected)?;
        return Ok(Strings { span: value.span(), values: vec![value] });
    }
    let content;
    let bracket = bracketed!(content in input);
    let mut values = Vec::new();
    while !content.is_empty() {
        values.push(string(&content, "a string in quotes")?);
        if !content.is_empty() {
            content.parse::<Token![,]>()?;
        }
    }
    Ok(Strings { values, span: bracket.span.join() })
}

fn expression(input: ParseStream<'_>, expected: &str) -> syn::Result<Expr> {
    if input.is_empty() || input.peek(Token![,]) {
        return Err(input.error(format!("expected {expected}")));
    }
    input.parse()
}

fn path(input: ParseStream<'_>, expected: &str) -> syn::Result<Path> {
    input
        .call(Path::parse_mod_style)
        .map_err(|error| syn::Error::new(error.span(), format!("expected {expected}")))
}

fn skip_to_comma(input: ParseStream<'_>) {
    while !input.is_empty() && !input.peek(Token![,]) {
        // A token tree can always be read where the input is not empty.
        let _ = input.parse::<TokenTree>();
    }
}

/// A function whose body stays raw tokens: half-typed code still expands, and is parsed once only.
#[derive(Clone)]
pub(crate) struct Function {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    pub(crate) brace: Brace,
    pub(crate) body: TokenStream,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        let signature = input.parse()?;
        let content;
        let brace = braced!(content in input);
        // They hold for the body just as well from outside.
        attributes.extend(content.call(Attribute::parse_inner)?.into_iter().map(
            |mut attribute| {
                attribute.style = syn::AttrStyle::Outer;
                attribute
            },
        ));
        Ok(Self { attributes, visibility, signature, brace, body: content.parse()? })
    }
}
