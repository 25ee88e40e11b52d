//! Feature `utoipa`: an attribute above `#[utoipa::path]` tells it what it knows.
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
//!
//! `#[utoipa::path]` then expands first, on the handler as it is written: it takes the request's body
//! from its parameters. The attribute itself is left for last, with its arguments as they are: it alone
//! reports what is wrong with them, or with the handler. The rest of the item stays raw tokens.

mod found;
mod path;

use std::time::Duration;

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{format_ident, quote};
use syn::{
    Attribute,
    parse::{ParseStream, Parser as _},
};

use self::{found::Found, path::Addition};
use super::library::Library;
use crate::{
    faults::Faults,
    options::{Format, Options},
};

/// The item with what `#[utoipa::path]` is told, and the attribute once more; `None` if there is
/// nobody to tell.
pub(crate) fn describe(arguments: &TokenStream, item: &TokenStream) -> Option<TokenStream> {
    let (mut attributes, rest) = split(item)?;
    let found = Found::take(&mut attributes)?;
    // First of all: what is added names what they leave out.
    let (conditions, attributes): (Vec<_>, Vec<_>) =
        attributes.into_iter().partition(|attribute| attribute.path().is_ident("cfg"));
    // Reported by the attribute itself, which comes after.
    let options = Options::parse(arguments.clone(), &mut Faults::default());
    if options.library_is_unknown() {
        return None;
    }
    let library = Library(options.krate.value());
    let private = library.here();
    let own = format_ident!("__idempotent_{}", name(&rest)?, span = Span::mixed_site());

    let ttl = words(options.ttl.value().copied().unwrap_or(DEFAULT_TTL));
    let headers = headers(&options, &found.arguments);
    let told = path::tell(
        found.arguments.clone(),
        &Addition {
            key: (!headers.is_empty()).then(|| quote!(#private::openapi::KeyOf<#own>)),
            problems: quote!(#private::openapi::Problems),
            replayed: format!(
                "`true` if this is the stored response of an earlier request with the same key, which is replayed for {ttl}"
            ),
        },
    );
    let told = found.with(&told);
    let described = (!headers.is_empty()).then(|| {
        let key = key(&options, &headers, &ttl);
        let condition = found.condition.as_ref().map(|condition| quote!(#[cfg(#condition)]));
        quote! {
            #(#conditions)* #condition
            #[allow(non_camel_case_types)]
            struct #own;
            #(#conditions)* #condition
            impl #private::openapi::Described for #own {
                const KEY: #private::openapi::Key = #private::openapi::Key::new()#key;
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

/// The item's attributes, and what stands below them.
fn split(item: &TokenStream) -> Option<(Vec<Attribute>, TokenStream)> {
    let parser = |input: ParseStream<'_>| Ok((input.call(Attribute::parse_outer)?, input.parse()?));
    parser.parse2(item.clone()).ok()
}

/// The name of the function that `rest` is.
fn name(rest: &TokenStream) -> Option<Ident> {
    let mut tokens = rest.clone().into_iter();
    tokens.find(|token| matches!(token, TokenTree::Ident(word) if word == "fn"))?;
    match tokens.next()? {
        TokenTree::Ident(name) => Some(name),
        _ => None,
    }
}

/// The headers that carry the key, without those that the user has described.
fn headers(options: &Options, arguments: &TokenStream) -> Vec<String> {
    if options.key.is_given() || path::has_key(arguments) {
        return Vec::new();
    }
    let default = || DEFAULT_HEADERS.map(str::to_owned).to_vec();
    let mut headers = options.header.value().cloned().unwrap_or_else(default);
    let described = path::described_headers(arguments);
    headers.retain(|header| !described.iter().any(|name| name.eq_ignore_ascii_case(header)));
    headers
}

/// What makes the key of an attribute without options that of this one.
fn key(options: &Options, headers: &[String], ttl: &str) -> TokenStream {
    let mut changes = TokenStream::new();
    if headers != DEFAULT_HEADERS {
        changes.extend(quote!(.headers(&[#(#headers),*])));
    }
    match options.format.value() {
        Some(Format::Any(_)) => changes.extend(quote!(.any())),
        Some(Format::UuidV4) => changes.extend(quote!(.uuid_v4())),
        Some(Format::Uuid) | None => {}
    }
    if options.required.is_given() {
        changes.extend(quote!(.required()));
    }
    quote!(#changes.ttl(#ttl))
}

/// As the runtime has them.
const DEFAULT_HEADERS: [&str; 2] = ["idempotency-key", "x-idempotency-key"];
const DEFAULT_TTL: Duration = Duration::from_hours(1);

/// A duration for people: `1 hour 30 minutes`.
fn words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [
        (seconds / 86_400, "day"),
        (seconds / 3_600 % 24, "hour"),
        (seconds / 60 % 60, "minute"),
        (seconds % 60, "second"),
        (u64::from(duration.subsec_millis()), "millisecond"),
    ];
    let words = parts.into_iter().filter(|(count, _)| *count > 0);
    let words = words.map(|(count, unit)| {
        let plural = if count == 1 { "" } else { "s" };
        format!("{count} {unit}{plural}")
    });
    words.collect::<Vec<_>>().join(" ")
}
