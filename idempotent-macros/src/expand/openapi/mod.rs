//! Feature `utoipa`: an attribute above `#[utoipa::path]` passes on what it knows.
//!
//! ```text
//! // Input
//! #[idempotent(ttl = "1d")]
//! #[utoipa::path(post, path = "/invite", responses((status = 201, body = Invited)))]
//! async fn invite(Json(body): Json<Invite>) -> (StatusCode, Json<Invited>) { … }
//!
//! // Output
//! #[utoipa::path(
//!     post, path = "/invite",
//!     responses(Problems, (status = 201, body = Invited, headers(("idempotent-replayed" = bool, …)))),
//!     params(KeyOf<__idempotent_invite>)
//! )]
//! #[idempotent(ttl = "1d")]
//! async fn invite(Json(body): Json<Invite>) -> (StatusCode, Json<Invited>) { … }
//!
//! struct __idempotent_invite;
//! impl Described for __idempotent_invite {
//!     const KEY: Key = Key::new().ttl("1 day");
//! }
//! ```
//! `#[utoipa::path]` then expands first, on the handler as written, because it takes the request
//! body from the handler's parameters. The `#[idempotent]` attribute comes last, with its arguments
//! unchanged: it alone reports what is wrong with them or with the handler. The rest of the item
//! stays raw tokens.

mod found;
mod key;
mod path;

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{format_ident, quote};
use syn::{
    Attribute,
    parse::{ParseStream, Parser as _},
};

use self::{found::Found, path::Addition};
use super::library::Library;
use crate::{faults::Faults, options::Options};

/// The item with the additions to `#[utoipa::path]` and the attribute repeated; `None` if there is
/// no `#[utoipa::path]`.
pub(crate) fn describe(arguments: &TokenStream, item: &TokenStream) -> Option<TokenStream> {
    let (mut attributes, rest) = split(item)?;
    let found = Found::take(&mut attributes)?;
    // Must come first: the added items name what these conditions leave out.
    let (conditions, attributes): (Vec<_>, Vec<_>) =
        attributes.into_iter().partition(|attribute| attribute.path().is_ident("cfg"));
    // Faults are reported by the attribute itself, which expands later.
    let options = Options::parse(arguments.clone(), &mut Faults::default());
    if options.library_is_unknown() {
        return None;
    }
    let library = Library(options.krate.value());
    let private = library.here();
    let own = format_ident!("__idempotent_{}", name(&rest)?, span = Span::mixed_site());

    let ttl = key::ttl(&options);
    let key = key::key(&library, &options, found.arguments(), &ttl);
    let told = path::tell(
        found.arguments().clone(),
        &Addition {
            key: key.is_some().then(|| quote!(#private::openapi::KeyOf<#own>)),
            problems: quote!(#private::openapi::Problems),
            replayed: format!(
                "`true` if this is the stored response of an earlier request with the same key, which is replayed for {ttl}"
            ),
        },
    );
    let condition = found.condition.as_ref().map(|condition| quote!(#[cfg(#condition)]));
    let told = found.with(told);
    let described = key.map(|key| {
        quote! {
            #(#conditions)* #condition
            #[allow(non_camel_case_types)]
            struct #own;
            #(#conditions)* #condition
            impl #private::openapi::Described for #own {
                const KEY: #private::openapi::Key = #key;
            }
        }
    });
    let again = library.attribute();
    Some(quote! {
        #(#conditions)*
        #told
        #[#again(#arguments)]
        #(#attributes)*
        #rest
        #described
    })
}

/// The item's attributes, and the tokens below them.
fn split(item: &TokenStream) -> Option<(Vec<Attribute>, TokenStream)> {
    let parser = |input: ParseStream<'_>| Ok((input.call(Attribute::parse_outer)?, input.parse()?));
    parser.parse2(item.clone()).ok()
}

/// The name of the function in `rest`.
fn name(rest: &TokenStream) -> Option<Ident> {
    let mut tokens = rest.clone().into_iter();
    tokens.find(|token| matches!(token, TokenTree::Ident(word) if word == "fn"))?;
    match tokens.next()? {
        TokenTree::Ident(name) => Some(name),
        _ => None,
    }
}
