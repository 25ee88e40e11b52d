//! The arguments of `#[utoipa::path(…)]`: what stands there, and what is added.
//!
//! They are split at their commas and no further than to where something is added. What has another
//! form than those that are known is passed on as it is: `#[utoipa::path]` says what is wrong with it.

use proc_macro2::{Delimiter, Group, Ident, Punct, Spacing, Span, TokenStream, TokenTree};
use quote::{ToTokens as _, quote};
use syn::{LitInt, LitStr, Path};

/// What is added to the arguments.
pub(super) struct Addition {
    /// A type for `params(…)`, if there is something to say.
    pub(super) key: Option<TokenStream>,
    /// A type for `responses(…)`.
    pub(super) problems: TokenStream,
    /// The description of the header of a replay.
    pub(super) replayed: String,
}

/// The header of a replay.
const REPLAYED: &str = "idempotent-replayed";

/// `arguments`, and what `addition` says.
pub(super) fn tell(arguments: TokenStream, addition: &Addition) -> TokenStream {
    let mut arguments = List::of(arguments);
    // What the user wrote for a status comes behind, and wins.
    let problems = &addition.problems;
    arguments.change_last("responses", |responses| {
        for Entry(tokens) in &mut responses.entries {
            if let [TokenTree::Group(response)] = &mut **tokens {
                mark_as_replayed(response, &addition.replayed);
            }
        }
        responses.entries.insert(0, Entry::of(problems.clone()));
    });
    if let Some(key) = &addition.key {
        arguments.change_last("params", |params| params.entries.push(Entry::of(key.clone())));
    }
    arguments.into_tokens()
}

/// Whether [`Key`](https://docs.rs/idempotent-axum/latest/idempotent_axum/openapi/struct.Key.html)
/// describes the key already.
pub(super) fn has_key(arguments: &TokenStream) -> bool {
    let params = List::of(arguments.clone()).last("params");
    params.entries.iter().any(|entry| {
        let path = syn::parse2::<Path>(entry.tokens());
        path.is_ok_and(|path| {
            let names: Vec<_> = path.segments.iter().rev().map(|segment| &segment.ident).collect();
            matches!(*names, [key, module, ..] if key == "Key" && module == "openapi")
        })
    })
}

/// The headers among the parameters that are described by hand.
pub(super) fn described_headers(arguments: &TokenStream) -> Vec<String> {
    let params = List::of(arguments.clone()).last("params");
    let groups = params.entries.iter().filter_map(Entry::group).map(Group::stream);
    let headers = groups.filter(|parameter| {
        let mut parts = List::of(parameter.clone()).entries.into_iter();
        parts.any(|part| part.tokens().to_string() == "Header")
    });
    let names = headers.filter_map(|parameter| parameter.into_iter().next());
    names
        .filter_map(|name| syn::parse2::<LitStr>(name.into()).ok())
        .map(|name| name.value())
        .collect()
}

/// Adds the header of a replay to a response that is a success, unless it is there.
fn mark_as_replayed(response: &mut Group, description: &str) {
    let mut parts = List::of(response.stream());
    let is_success = parts.value("status").is_some_and(|status| is_success(&status));
    // A response that is described elsewhere has no headers of its own.
    if !is_success || parts.value("response").is_some() {
        return;
    }
    parts.change_last("headers", |headers| {
        let names = headers.entries.iter().filter_map(Entry::group);
        let mut names = names.filter_map(|header| header.stream().into_iter().next());
        let is_there = names.any(|name| {
            syn::parse2::<LitStr>(name.into())
                .is_ok_and(|name| name.value().eq_ignore_ascii_case(REPLAYED))
        });
        if !is_there {
            headers.entries.push(Entry::of(quote!((#REPLAYED = bool, description = #description))));
        }
    });
    replace(response, parts.into_tokens());
}

/// Replaces what is in the brackets.
fn replace(group: &mut Group, content: TokenStream) {
    let mut replaced = Group::new(group.delimiter(), content);
    replaced.set_span(group.span());
    *group = replaced;
}

/// Whether all responses with `status` are a success: a number, a name of `StatusCode`, or `"2XX"`.
fn is_success(status: &TokenStream) -> bool {
    if let Ok(number) = syn::parse2::<LitInt>(status.clone()) {
        return number.base10_parse().is_ok_and(|number: u16| (200..300).contains(&number));
    }
    if let Ok(range) = syn::parse2::<LitStr>(status.clone()) {
        return range.value() == "2XX";
    }
    let path = syn::parse2::<Path>(status.clone());
    path.is_ok_and(|path| {
        let name = path.segments.last().map(|name| &name.ident);
        name.is_some_and(|name| SUCCESSES.iter().any(|success| name == success))
    })
}

/// Those of `StatusCode`.
const SUCCESSES: [&str; 10] = [
    "OK",
    "CREATED",
    "ACCEPTED",
    "NON_AUTHORITATIVE_INFORMATION",
    "NO_CONTENT",
    "RESET_CONTENT",
    "PARTIAL_CONTENT",
    "MULTI_STATUS",
    "ALREADY_REPORTED",
    "IM_USED",
];

/// Tokens between commas.
struct List {
    entries: Vec<Entry>,
}

/// Tokens without a comma among them, as far as they are not in brackets.
struct Entry(Vec<TokenTree>);

impl List {
    fn of(tokens: TokenStream) -> Self {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is_comma =
            |token: &TokenTree| matches!(token, TokenTree::Punct(comma) if comma.as_char() == ',');
        let mut entries: Vec<Entry> =
            tokens.split(is_comma).map(|entry| Entry(entry.to_vec())).collect();
        // Behind a comma at the end, or all there is.
        entries.pop_if(|last| last.0.is_empty());
        Self { entries }
    }

    fn into_tokens(self) -> TokenStream {
        let entries = self.entries.into_iter().map(|Entry(tokens)| tokens);
        let comma = TokenTree::Punct(Punct::new(',', Spacing::Alone));
        entries.collect::<Vec<_>>().join(&comma).into_iter().collect()
    }

    /// What is in the brackets of the last `name(…)`, the only one that counts.
    fn last(&self, name: &str) -> Self {
        let mut named = self.entries.iter().rev().filter_map(|entry| entry.named(name));
        Self::of(named.next().map(Group::stream).unwrap_or_default())
    }

    /// Changes what is in the brackets of the last `name(…)`; adds one if there is none.
    fn change_last(&mut self, name: &str, change: impl FnOnce(&mut Self)) {
        let mut list = self.last(name);
        change(&mut list);
        let list = list.into_tokens();
        let existing = self.entries.iter_mut().rev().find(|entry| entry.named(name).is_some());
        if let Some(TokenTree::Group(group)) = existing.and_then(|entry| entry.0.last_mut()) {
            replace(group, list);
        } else {
            let name = Ident::new(name, Span::mixed_site());
            self.entries.push(Entry::of(quote!(#name(#list))));
        }
    }

    /// What stands behind the last `name =`.
    fn value(&self, name: &str) -> Option<TokenStream> {
        self.entries.iter().rev().find_map(|Entry(tokens)| match &**tokens {
            [TokenTree::Ident(ident), TokenTree::Punct(equals), value @ ..]
                if ident == name && equals.as_char() == '=' =>
            {
                Some(value.iter().cloned().flat_map(ungrouped).collect())
            }
            _ => None,
        })
    }
}

impl Entry {
    fn of(tokens: TokenStream) -> Self {
        Self(tokens.into_iter().collect())
    }

    fn tokens(&self) -> TokenStream {
        self.0.iter().map(TokenTree::to_token_stream).collect()
    }

    /// The brackets of `name(…)`.
    fn named(&self, name: &str) -> Option<&Group> {
        match &*self.0 {
            [TokenTree::Ident(ident), TokenTree::Group(group)] if ident == name => Some(group),
            _ => None,
        }
    }

    /// `(…)` alone.
    fn group(&self) -> Option<&Group> {
        match &*self.0 {
            [TokenTree::Group(group)] => Some(group),
            _ => None,
        }
    }
}

/// A `$status:literal` of a macro arrives in an invisible group.
fn ungrouped(token: TokenTree) -> TokenStream {
    match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::None => group.stream(),
        other => other.into(),
    }
}
