//! The arguments of `#[utoipa::path(…)]`: what is there, and what is added.
//!
//! They are split at commas, and no deeper than where something is added. Anything of an unknown
//! form is passed on unchanged: `#[utoipa::path]` reports what is wrong with it.

use proc_macro2::{Delimiter, Group, Ident, Punct, Spacing, Span, TokenStream, TokenTree};
use quote::{ToTokens as _, quote};
use syn::{LitInt, LitStr, Path};

/// What is added to the arguments.
pub(super) struct Addition {
    /// A type for `params(…)`, if there is a key to describe.
    pub(super) key: Option<TokenStream>,
    /// A type for `responses(…)`.
    pub(super) problems: TokenStream,
    /// The description of the header that marks a replay.
    pub(super) replayed: String,
}

/// The header that marks a replay.
const REPLAYED: &str = "idempotent-replayed";

/// `arguments` with `addition` added.
pub(super) fn tell(arguments: TokenStream, addition: &Addition) -> TokenStream {
    let mut arguments = List::of(arguments);
    // Responses that the user wrote for a status come later, and win.
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
/// already describes the key.
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

/// The headers that the parameters describe by hand.
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

/// Adds the replay header to a successful response, unless it is there already.
fn mark_as_replayed(response: &mut Group, description: &str) {
    let mut parts = List::of(response.stream());
    let is_success = parts.value("status").is_some_and(|status| is_success(&status));
    // A response that is described elsewhere cannot have headers here.
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

/// Replaces the contents of the group.
fn replace(group: &mut Group, content: TokenStream) {
    let mut replaced = Group::new(group.delimiter(), content);
    replaced.set_span(group.span());
    *group = replaced;
}

/// Whether every response with `status` is a success: a number, a name from `StatusCode`, or
/// `"2XX"`.
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

/// The successes in `StatusCode`.
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

/// Entries separated by commas.
struct List {
    entries: Vec<Entry>,
}

/// Tokens with no comma among them, other than inside groups.
struct Entry(Vec<TokenTree>);

impl List {
    fn of(tokens: TokenStream) -> Self {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is_comma =
            |token: &TokenTree| matches!(token, TokenTree::Punct(comma) if comma.as_char() == ',');
        let mut entries: Vec<Entry> =
            tokens.split(is_comma).map(|entry| Entry(entry.to_vec())).collect();
        // Empty after a trailing comma, or because there is nothing at all.
        if entries.last().is_some_and(|last| last.0.is_empty()) {
            entries.pop();
        }
        Self { entries }
    }

    fn into_tokens(self) -> TokenStream {
        let entries = self.entries.into_iter().map(|Entry(tokens)| tokens);
        let comma = TokenTree::Punct(Punct::new(',', Spacing::Alone));
        entries.collect::<Vec<_>>().join(&comma).into_iter().collect()
    }

    /// The contents of the last `name(…)`, the only one that counts.
    fn last(&self, name: &str) -> Self {
        let mut named = self.entries.iter().rev().filter_map(|entry| entry.named(name));
        Self::of(named.next().map(Group::stream).unwrap_or_default())
    }

    /// Changes the contents of the last `name(…)`, adding one if there is none.
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

    /// The value after the last `name =`.
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

    /// The parentheses of `name(…)`.
    fn named(&self, name: &str) -> Option<&Group> {
        match &*self.0 {
            [TokenTree::Ident(ident), TokenTree::Group(group)] if ident == name => Some(group),
            _ => None,
        }
    }

    /// Parentheses alone: `(…)`.
    fn group(&self) -> Option<&Group> {
        match &*self.0 {
            [TokenTree::Group(group)] => Some(group),
            _ => None,
        }
    }
}

/// A macro's `$status:literal` arrives in an invisible group.
fn ungrouped(token: TokenTree) -> TokenStream {
    match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::None => group.stream(),
        other => other.into(),
    }
}
