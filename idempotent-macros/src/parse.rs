//! Tokens to syntax: the attribute's options with their spans, and the item below it.
//!
//! Nothing is judged here but the grammar. An option that cannot be parsed is reported and skipped,
//! so that the ones behind it are still checked.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{
    Attribute, Expr, FnArg, Ident, LitStr, PatType, Path, Signature, Token, Visibility, braced,
    bracketed,
    ext::IdentExt as _,
    parse::{Parse, ParseStream, discouraged::Speculative as _},
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

/// An option's value, and its name as it is written: the expansion names the library's item of that
/// name with it, so that an editor shows that item's documentation.
pub(crate) struct Slot<T> {
    pub(crate) name: Ident,
    pub(crate) value: T,
}

impl<T> Slot<T> {
    /// The option with what its value means, where `check` finds no fault in it.
    pub(crate) fn check<U>(
        self,
        faults: &mut Faults,
        check: impl FnOnce(&T) -> syn::Result<U>,
    ) -> Option<Slot<U>> {
        match check(&self.value) {
            Ok(value) => Some(Slot { name: self.name, value }),
            Err(fault) => {
                faults.add(fault);
                None
            }
        }
    }
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
    /// Whether generated code would look for the library in the wrong place.
    pub(crate) krate_is_unknown: bool,
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
                if let Err(fault) = comma(input, "options") {
                    faults.add(fault);
                    let next = input.fork().call(Ident::parse_any);
                    if !next.is_ok_and(|next| NAMES.iter().any(|name| next == name)) {
                        skip_to_comma(input);
                    }
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
            return Err(input.error(format!("expected an option: {}", all_names())));
        }
        let name = input.call(Ident::parse_any)?;
        match name.to_string().as_str() {
            "ttl" => {
                put(&mut self.ttl, &name, input, string, "a duration in quotes, such as `\"1h\"`")
            }
            "header" => {
                let expected =
                    "a header name in quotes, such as `\"idempotency-key\"`, or an array of names";
                put(&mut self.header, &name, input, strings, expected)
            }
            "format" => put(
                &mut self.format,
                &name,
                input,
                string,
                "`\"uuid\"`, `\"uuid-v4\"` or `\"any\"`",
            ),
            "required" if input.peek(Token![=]) => {
                Err(input
                    .error("`required` takes no value: write `required` alone, or leave it out"))
            }
            "required" => fill(&mut self.required, &name, ()),
            "replay" => {
                let expected = "`\"all\"`, a status in quotes such as `\"2xx\"` or `\"409\"`, or an array of them";
                put(&mut self.replay, &name, input, strings, expected)
            }
            "wait" => {
                put(&mut self.wait, &name, input, string, "a duration in quotes, such as `\"10s\"`")
            }
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
                    "`\"request\"`, `\"none\"` or an expression over the handler's parameters";
                put(&mut self.fingerprint, &name, input, expression, expected)
            }
            "scope" => {
                let expected = "the operation's name in quotes, such as `\"create-payment\"`";
                put(&mut self.scope, &name, input, string, expected)
            }
            "crate" => {
                let expected =
                    "the path of the library without quotes, such as `my_deps::idempotent_axum`";
                put(&mut self.krate, &name, input, path, expected)
                    .inspect_err(|_| self.krate_is_unknown = true)
            }
            unknown => Err(syn::Error::new(name.span(), unknown_option(unknown))),
        }
    }
}

fn unknown_option(name: &str) -> String {
    let distance = |known: &&str| strsim::damerau_levenshtein(name, known);
    let nearest = NAMES.into_iter().min_by_key(distance);
    match nearest.filter(|known| distance(known) <= name.len().max(known.len()) / 3) {
        Some(nearest) => format!("unknown option `{name}`: did you mean `{nearest}`?"),
        None => format!("unknown option `{name}`: expected one of {}", all_names()),
    }
}

fn all_names() -> String {
    NAMES.map(|name| format!("`{name}`")).join(", ")
}

/// Parses `= value` into `slot`.
fn put<T>(
    slot: &mut Option<Slot<T>>,
    name: &Ident,
    input: ParseStream<'_>,
    parse: fn(ParseStream<'_>, &str) -> syn::Result<T>,
    expected: &str,
) -> syn::Result<()> {
    let equals = input.parse::<Option<Token![=]>>()?;
    if equals.is_none() || input.is_empty() || input.peek(Token![,]) {
        let message = format!("`{name}` needs a value: write `{name} = …`, {expected}");
        return Err(syn::Error::new(name.span(), message));
    }
    let value = parse(input, expected)?;
    fill(slot, name, value)
}

fn fill<T>(slot: &mut Option<Slot<T>>, name: &Ident, value: T) -> syn::Result<()> {
    if slot.is_some() {
        return Err(syn::Error::new(name.span(), format!("`{name}` is given twice: keep one")));
    }
    *slot = Some(Slot { name: name.clone(), value });
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
        let element = string(&content, "a string in quotes")
            .and_then(|value| comma(&content, "strings").map(|()| value));
        match element {
            Ok(value) => values.push(value),
            Err(fault) => {
                // What is left in the brackets would be a second error.
                content.parse::<TokenStream>()?;
                return Err(fault);
            }
        }
    }
    Ok(Strings { values, span: bracket.span.join() })
}

fn comma(input: ParseStream<'_>, between: &str) -> syn::Result<()> {
    if input.is_empty() || input.parse::<Option<Token![,]>>()?.is_some() {
        return Ok(());
    }
    Err(input.error(format!("expected `,` between two {between}")))
}

fn expression(input: ParseStream<'_>, expected: &str) -> syn::Result<Expr> {
    // On a fork, because syn reports what is left in a bracket of `input` once more.
    let attempt = input.fork();
    match attempt.parse() {
        Ok(value) => {
            input.advance_to(&attempt);
            Ok(value)
        }
        Err(error) if !attempt.is_empty() => {
            let message = format!("the expression breaks off here: expected {expected}");
            Err(syn::Error::new(error.span(), message))
        }
        Err(error) => {
            // It ends too early: point at its last token, not at the whole attribute.
            let last = input
                .fork()
                .parse::<TokenStream>()
                .ok()
                .and_then(|tokens| tokens.into_iter().last());
            let span = match last {
                Some(TokenTree::Group(group)) => group.span_close(),
                Some(token) => token.span(),
                None => error.span(),
            };
            let message = format!("the expression ends too early: expected {expected}");
            Err(syn::Error::new(span, message))
        }
    }
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
    /// Parameters that were reported and taken out of the signature; the body still sees them.
    pub(crate) refused: Vec<PatType>,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        if let Some(other) = other_item(input) {
            return Err(input.error(format!(
                "`#[idempotent]` goes above an `async fn` that handles requests, not above {other}"
            )));
        }
        let mut signature: Signature = input.parse()?;
        for parameter in &mut signature.inputs {
            if let FnArg::Typed(parameter) = parameter {
                // Documentation of a parameter is for those who read the source; the compiler refuses it.
                parameter.attrs.retain(|attribute| !attribute.path().is_ident("doc"));
            }
        }
        if input.peek(Token![;]) {
            return Err(input.error("a handler needs a body: write `{ … }` instead of `;`"));
        }
        let content;
        let brace = braced!(content in input);
        // They hold for the body just as well from outside.
        attributes.extend(content.call(Attribute::parse_inner)?.into_iter().map(
            |mut attribute| {
                attribute.style = syn::AttrStyle::Outer;
                attribute
            },
        ));
        Ok(Self {
            attributes,
            visibility,
            signature,
            brace,
            body: content.parse()?,
            refused: Vec::new(),
        })
    }
}

/// What stands below the attribute, where it is no function.
fn other_item(input: ParseStream<'_>) -> Option<&'static str> {
    let after = input.fork();
    skip_modifiers(&after);
    let kinds = [
        (after.peek(Token![fn]), None),
        (after.peek(Token![struct]), Some("a `struct`")),
        (after.peek(Token![enum]), Some("an `enum`")),
        (after.peek(Token![impl]), Some("an `impl`: write it above each handler inside")),
        (after.peek(Token![trait]), Some("a `trait`")),
        (after.peek(Token![mod]), Some("a `mod`: write it above each handler inside")),
        (after.peek(Token![|]), Some("a closure: make it a function")),
        (after.peek(Token![let]), Some("a closure: make it a function")),
        (after.peek(Token![type]), Some("a `type`")),
        (after.peek(Token![use]), Some("a `use`")),
        (after.peek(Token![static]), Some("a `static`")),
        (input.peek(Token![const]), Some("a `const`")),
    ];
    let known = kinds.into_iter().find_map(|(found, name)| found.then_some(name));
    known.unwrap_or(Some("anything else"))
}

/// Whether `item` is a closure that stands where only an expression can.
pub(crate) fn is_closure(item: TokenStream) -> bool {
    let parser = |input: ParseStream<'_>| {
        input.call(Attribute::parse_outer)?;
        skip_modifiers(input);
        let found = input.peek(Token![|]);
        input.parse::<TokenStream>().map(|_| found)
    };
    syn::parse::Parser::parse2(parser, item).unwrap_or(false)
}

fn skip_modifiers(input: ParseStream<'_>) {
    while input.peek(Token![const])
        || input.peek(Token![async])
        || input.peek(Token![unsafe])
        || input.peek(Token![extern])
        || input.peek(LitStr)
        || input.peek(Token![move])
    {
        if input.parse::<TokenTree>().is_err() {
            break;
        }
    }
}
