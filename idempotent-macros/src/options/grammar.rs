//! What may follow an option's name. Each function reads the whole value, and reports at the
//! offending token what is expected instead.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{
    Expr, Ident, LitStr, Path, Token, bracketed,
    parse::{ParseStream, discouraged::Speculative as _},
    token::Bracket,
};

/// One string, or an array of strings.
pub(super) struct Strings {
    pub(super) values: Vec<LitStr>,
    /// The span of the whole value.
    pub(super) span: Span,
}

/// Nothing: the name alone is the option.
pub(super) fn flag(name: &Ident, input: ParseStream<'_>, expected: &str) -> syn::Result<()> {
    if input.peek(Token![=]) {
        return Err(input.error(format!("`{name}` takes no value: {expected}")));
    }
    Ok(())
}

pub(super) fn string(name: &Ident, input: ParseStream<'_>, expected: &str) -> syn::Result<LitStr> {
    equals(name, input, expected)?;
    literal(input, expected)
}

pub(super) fn strings(
    name: &Ident,
    input: ParseStream<'_>,
    expected: &str,
) -> syn::Result<Strings> {
    equals(name, input, expected)?;
    if !input.peek(Bracket) {
        let value = literal(input, expected)?;
        return Ok(Strings { span: value.span(), values: vec![value] });
    }
    let content;
    let bracket = bracketed!(content in input);
    let mut values = Vec::new();
    while !content.is_empty() {
        let element = literal(&content, "a string in quotes")
            .and_then(|value| comma(&content, "strings").map(|()| value));
        match element {
            Ok(value) => values.push(value),
            Err(fault) => {
                // Leaving the rest in the brackets would cause a second error.
                content.parse::<TokenStream>()?;
                return Err(fault);
            }
        }
    }
    Ok(Strings { values, span: bracket.span.join() })
}

pub(super) fn expression(
    name: &Ident,
    input: ParseStream<'_>,
    expected: &str,
) -> syn::Result<Expr> {
    equals(name, input, expected)?;
    // On a fork, because syn reports again what is left inside a bracket of `input`.
    let attempt = input.fork();
    match attempt.parse() {
        Ok(value) => {
            input.advance_to(&attempt);
            Ok(value)
        }
        Err(error) if !attempt.is_empty() => {
            let message = format!("the expression is incomplete here: expected {expected}");
            Err(syn::Error::new(error.span(), message))
        }
        Err(error) => {
            // It ends too early: point at the last token, not at the whole attribute.
            let rest = input.fork().parse::<TokenStream>().ok();
            let span = match rest.and_then(|tokens| tokens.into_iter().last()) {
                Some(TokenTree::Group(group)) => group.span_close(),
                Some(token) => token.span(),
                None => error.span(),
            };
            let message = format!("the expression ends too early: expected {expected}");
            Err(syn::Error::new(span, message))
        }
    }
}

pub(super) fn path(name: &Ident, input: ParseStream<'_>, expected: &str) -> syn::Result<Path> {
    equals(name, input, expected)?;
    input
        .call(Path::parse_mod_style)
        .map_err(|error| syn::Error::new(error.span(), format!("expected {expected}")))
}

/// The `=` before a value, if a value follows.
fn equals(name: &Ident, input: ParseStream<'_>, expected: &str) -> syn::Result<()> {
    let equals = input.parse::<Option<Token![=]>>()?;
    if equals.is_none() || input.is_empty() || input.peek(Token![,]) {
        let message = format!("`{name}` needs a value: write `{name} = …`, {expected}");
        return Err(syn::Error::new(name.span(), message));
    }
    Ok(())
}

fn literal(input: ParseStream<'_>, expected: &str) -> syn::Result<LitStr> {
    input
        .parse()
        .map_err(|error: syn::Error| syn::Error::new(error.span(), format!("expected {expected}")))
}

/// The comma after every element but the last.
pub(super) fn comma(input: ParseStream<'_>, between: &str) -> syn::Result<()> {
    if input.is_empty() || input.parse::<Option<Token![,]>>()?.is_some() {
        return Ok(());
    }
    Err(input.error(format!("expected `,` between two {between}")))
}

pub(super) fn skip_to_comma(input: ParseStream<'_>) {
    while !input.is_empty() && !input.peek(Token![,]) {
        // A token tree can always be read from input that is not empty.
        let _ = input.parse::<TokenTree>();
    }
}
