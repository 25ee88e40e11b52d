//! The attribute's expressions, evaluated before or after the last parameter is extracted.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Expr, spanned::Spanned as _};

use super::{library::Library, names};
use crate::options::{Fingerprint, Options};

/// When the expressions are evaluated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    BeforeExtraction,
    /// One of them uses a value of the last parameter.
    AfterExtraction,
}

impl Stage {
    /// When to evaluate the expressions, given that the last parameter binds the names `last`.
    pub(super) fn of(options: &Options, last: &[Ident]) -> Self {
        let mut expressions = options.expressions();
        let uses_last =
            expressions.any(|expression| last.iter().any(|name| names::may_use(expression, name)));
        if uses_last { Self::AfterExtraction } else { Self::BeforeExtraction }
    }
}

/// The statements that evaluate the expressions, and the parameter of the closure around them: the
/// place for the values, if there is a key to look up.
pub(super) struct Evaluation {
    pub(super) parameter: TokenStream,
    pub(super) statements: TokenStream,
}

impl Evaluation {
    pub(super) fn nothing() -> Self {
        Self { parameter: quote!(_), statements: TokenStream::new() }
    }

    pub(super) fn of(library: &Library<'_>, options: &Options) -> Self {
        let evaluated = Ident::new("__evaluated", Span::mixed_site());
        let mut calls = TokenStream::new();
        if let Some((name, value)) = options.principal.get() {
            let text = text(library, value);
            calls.extend(quote!(#evaluated.#name(#text);));
        }
        if let Some((name, Fingerprint::Expression(value))) = options.fingerprint.get() {
            let borrowed = borrowed(value);
            let private = library.at(value.span());
            let hash = quote_spanned!(value.span()=> #private::Hash::hash::<_>);
            calls.extend(quote!(#evaluated.#name(#borrowed, #hash);));
        }
        if let Some((name, value)) = options.key.get() {
            let text = text(library, value);
            let key = quote!(#evaluated.#name(#text));
            // Without a key nothing is looked up, so nothing else is evaluated.
            calls = if calls.is_empty() { quote!(#key;) } else { quote!(if #key { #calls }) };
        }
        if calls.is_empty() {
            return Self::nothing();
        }
        let statements = quote! {
            if let ::core::option::Option::Some(#evaluated) = #evaluated {
                #calls
            }
        };
        Self { parameter: quote!(#evaluated), statements }
    }
}

/// The text of a `principal` or `key` expression's value.
fn text(library: &Library<'_>, value: &Expr) -> TokenStream {
    let at = value.span();
    let private = library.at(at);
    // Ends in `<>`: otherwise `absolute_paths` would take it for a user's path that ends in `text`.
    quote_spanned!(at=> #private::OptionalDisplay::text::<>(&(#value)))
}

/// Turns `(a, b)` and `[a, b]` into tuples and arrays of references, so that nothing is moved out
/// of the body. Their hash is the same.
fn borrowed(expression: &Expr) -> TokenStream {
    let at = expression.span();
    match expression {
        Expr::Tuple(tuple) => {
            let elements = tuple.elems.iter().map(borrowed);
            quote_spanned!(at=> &(#(#elements,)*))
        }
        Expr::Array(array) => {
            let elements = array.elems.iter().map(borrowed);
            quote_spanned!(at=> &[#(#elements,)*])
        }
        Expr::Group(group) => borrowed(&group.expr),
        Expr::Paren(paren) => borrowed(&paren.expr),
        _ => quote_spanned!(at=> &(#expression)),
    }
}
