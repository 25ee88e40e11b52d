//! The handler's parameters: the last is wrapped, the others live as long as the body runs.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{FnArg, Pat, PatType, Signature, parse_quote, spanned::Spanned as _};

use super::{library::Library, names};
use crate::{item::Function, options::Options};

/// Takes `#[cfg(predicate)]` off the last parameter.
pub(super) fn take_cfg_of_last(function: &mut Function) -> Option<TokenStream> {
    let FnArg::Typed(last) = function.signature.inputs.last_mut()? else { return None };
    let position = last.attrs.iter().position(|attribute| attribute.path().is_ident("cfg"))?;
    last.attrs.remove(position).parse_args().ok()
}

/// The last parameter.
pub(super) struct Last {
    /// Its name in the compiled signature.
    pub(super) argument: Ident,
    /// The pattern that binds its value.
    pub(super) parameter: TokenStream,
    /// The names that the user gave it or parts of it.
    pub(super) names: Vec<Ident>,
}

impl Last {
    /// Replaces the last parameter `E` with `Idempotent<E>`.
    pub(super) fn wrap(library: &Library<'_>, signature: &mut Signature) -> Self {
        let private = library.here();
        let Some(FnArg::Typed(last)) = signature.inputs.pop() else {
            let argument = hidden_last();
            signature.inputs.push(parse_quote!(#argument: #private::Idempotent<()>));
            return Self { argument, parameter: quote!((): ()), names: Vec::new() };
        };
        let PatType { attrs, pat, ty, .. } = last;
        let names = names::bound_by(&pat);
        let argument = argument(&names);
        // With the type's own span, so that an error about the extractor points at it.
        let wrapped = quote_spanned!(ty.span()=> #private::Idempotent<#ty>);
        signature.inputs.push(parse_quote!(#argument: #wrapped));
        Self { argument, parameter: quote!(#(#attrs)* #pat: #ty), names }
    }
}

/// The user's name for the last parameter, if there is one, for readers of the signature.
///
/// It is nevertheless a different identifier from the user's, so that lints about shadowing do not
/// see it.
fn argument(names: &[Ident]) -> Ident {
    let mut argument = match names {
        // A capitalised name may be a unit struct or a constant, which binds nothing.
        [name] if !name.to_string().contains(char::is_uppercase) => name.clone(),
        _ => hidden_last(),
    };
    argument.set_span(Span::mixed_site());
    argument
}

/// The last parameter's name if it has none, or if it binds several.
fn hidden_last() -> Ident {
    Ident::new("__last", Span::mixed_site())
}

/// Makes the body capture whole parameters.
pub(super) struct Kept {
    /// The parameters that an expression uses, or that no lint watches.
    pub(super) read: TokenStream,
    /// The parameters that the body names. They go into code that never runs; otherwise a value
    /// that is assigned but never read would count as read.
    pub(super) unread: TokenStream,
}

/// Moves whole parameters into the body: a guard must live as long as the body runs, whether the
/// body names the guard itself or only one of its fields, or only an expression of the attribute
/// does.
///
/// A name that nothing uses is mentioned only if no lint watches it, so that unused parameters are
/// still reported.
pub(super) fn keep(options: &Options, signature: &mut Signature, body: &TokenStream) -> Kept {
    let in_body = names::used_in(body.clone());
    let in_expressions =
        names::used_in(options.expressions().map(ToTokens::to_token_stream).collect());
    let is_in_expression =
        |name: &Ident| options.expressions().any(|value| names::is_read_by(value, name));
    let is_read = |name: &Ident| name.to_string().starts_with('_') || is_in_expression(name);
    let last = signature.inputs.len().saturating_sub(1);
    let mut kept = Kept { read: TokenStream::new(), unread: TokenStream::new() };
    for (index, parameter) in signature.inputs.iter_mut().enumerate() {
        let FnArg::Typed(parameter) = parameter else { continue };
        if matches!(*parameter.pat, Pat::Wild(_)) {
            let name = if index == last {
                hidden_last()
            } else {
                format_ident!("__unnamed{index}", span = Span::mixed_site())
            };
            *parameter.pat = parse_quote!(#name);
        }
        let (read, unread): (Vec<_>, Vec<_>) =
            names::bound_by(&parameter.pat).into_iter().partition(is_read);
        let unread = unread.into_iter().filter(|name| in_body.contains_key(name));
        // Errors about the name should point at where it is used.
        let located = |mut name: Ident| {
            let at = in_body.get(&name).or_else(|| in_expressions.get(&name)).copied();
            let at = at.unwrap_or(name.span());
            name.set_span(name.span().located_at(at));
            name
        };
        let conditions: Vec<_> =
            parameter.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect();
        for name in read.into_iter().map(located) {
            let allowed = name.to_string().starts_with('_');
            let allowed = allowed.then(|| quote!(#[allow(clippy::used_underscore_binding)]));
            kept.read.extend(quote!(#(#conditions)* #allowed let _ = &#name;));
        }
        for name in unread.map(located) {
            kept.unread.extend(quote!(#(#conditions)* #[allow(unreachable_code)] let _ = &#name;));
        }
    }
    kept
}
