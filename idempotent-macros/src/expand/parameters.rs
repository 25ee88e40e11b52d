//! The handler's parameters: the last one wrapped, the others alive as long as the body runs.

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
    /// What binds its value.
    pub(super) parameter: TokenStream,
    /// The names that the user gave to it or to parts of it.
    pub(super) names: Vec<Ident>,
}

impl Last {
    /// Puts `Idempotent<E>` in the place of the last parameter `E`.
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

/// The user's name for the last parameter, if there is one, for those who read the signature.
///
/// It is another name than the user's own one all the same: no lint about shadowing sees it.
fn argument(names: &[Ident]) -> Ident {
    let mut argument = match names {
        // In capitals it may be a unit struct or a constant, which binds nothing.
        [name] if !name.to_string().contains(char::is_uppercase) => name.clone(),
        _ => hidden_last(),
    };
    argument.set_span(Span::mixed_site());
    argument
}

/// The last parameter's name if it has none, or parts of it have several.
fn hidden_last() -> Ident {
    Ident::new("__last", Span::mixed_site())
}

/// What makes the body take whole parameters.
pub(super) struct Kept {
    /// Those that an expression uses, or no lint watches.
    pub(super) read: TokenStream,
    /// Those that the body names. For code that nothing runs, or a value that is assigned and never
    /// read would count as read.
    pub(super) unread: TokenStream,
}

/// Moves whole parameters into the body: a guard must live as long as the body runs, whether the
/// body names it, a field beside it, or only an expression of the attribute does.
///
/// A name that nobody uses is mentioned only if no lint watches it, so that an unused parameter is
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
        // An error about the name is to be shown where it is used.
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
