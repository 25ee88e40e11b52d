//! The names that a pattern binds, and the names that tokens use.

use std::collections::HashMap;

use proc_macro2::{Ident, Spacing, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Pat, ext::IdentExt as _};

/// The names that `pattern` binds.
///
/// If the pattern contains a macro, every name in it is assumed to be bound.
pub(super) fn bound_by(pattern: &Pat) -> Vec<Ident> {
    let mut names = Vec::new();
    collect_bound(pattern, &mut names);
    names
}

fn collect_bound(pattern: &Pat, names: &mut Vec<Ident>) {
    let mut all = |patterns: &mut dyn Iterator<Item = &Pat>| {
        patterns.for_each(|pattern| collect_bound(pattern, names));
    };
    match pattern {
        Pat::Tuple(tuple) => all(&mut tuple.elems.iter()),
        Pat::TupleStruct(tuple) => all(&mut tuple.elems.iter()),
        Pat::Slice(slice) => all(&mut slice.elems.iter()),
        Pat::Struct(fields) => all(&mut fields.fields.iter().map(|field| &*field.pat)),
        // All alternatives bind the same names.
        Pat::Or(cases) => all(&mut cases.cases.iter().take(1)),
        Pat::Reference(reference) => collect_bound(&reference.pat, names),
        Pat::Paren(inner) => collect_bound(&inner.pat, names),
        Pat::Ident(binding) => {
            names.push(binding.ident.clone());
            if let Some((_, inner)) = &binding.subpat {
                collect_bound(inner, names);
            }
        }
        Pat::Macro(invoked) => names.extend(used_in(invoked.mac.tokens.clone()).into_keys()),
        _ => {}
    }
}

/// The names in `tokens` that may be variables, and where each occurs first.
pub(super) fn used_in(tokens: TokenStream) -> HashMap<Ident, Span> {
    let mut names = HashMap::new();
    collect_used(tokens, &mut names);
    names
}

fn collect_used(tokens: TokenStream, names: &mut HashMap<Ident, Span>) {
    let mut follows_dot = false;
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let is_field = follows_dot;
        follows_dot = false;
        match token {
            TokenTree::Group(group) => collect_used(group.stream(), names),
            // `user.id` is a field; `..id` and `user.0..id` are not.
            TokenTree::Punct(dot) if dot.as_char() == '.' => {
                let is_range = dot.spacing() == Spacing::Joint;
                if is_range && matches!(tokens.peek(), Some(TokenTree::Punct(_))) {
                    tokens.next();
                } else {
                    follows_dot = true;
                }
            }
            TokenTree::Ident(name) if !is_field && !is_label(tokens.peek()) => {
                let at = name.span();
                names.entry(name).or_insert(at);
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// Whether a name before `next` is a field's or a new one: `id: 1`, but not `id::new()`.
fn is_label(next: Option<&TokenTree>) -> bool {
    matches!(next, Some(TokenTree::Punct(colon)) if colon.as_char() == ':' && colon.spacing() == Spacing::Alone)
}

/// Whether an expression might use the binding `name`. Occurrences in a macro's arguments count,
/// and so do those in strings, since a macro may read them (`format!("{name}")`).
pub(super) fn may_use(expression: &impl ToTokens, name: &Ident) -> bool {
    let name = name.unraw().to_string();
    let mut found = false;
    for_each_leaf(expression.to_token_stream(), &mut |leaf| {
        found |= match leaf {
            TokenTree::Ident(ident) => ident.unraw() == name,
            TokenTree::Literal(literal) => words(&literal.to_string()).any(|word| word == name),
            TokenTree::Group(_) | TokenTree::Punct(_) => false,
        };
    });
    found
}

/// Whether an expression uses the binding `name`: by name, or as `{name}` in a string.
pub(super) fn is_read_by(expression: &impl ToTokens, name: &Ident) -> bool {
    let argument = format!("{{{}", name.unraw());
    let mut found = used_in(expression.to_token_stream()).contains_key(name);
    for_each_leaf(expression.to_token_stream(), &mut |leaf| {
        found |= matches!(leaf, TokenTree::Literal(literal) if literal
            .to_string()
            .split(['}', ':'])
            .any(|part| part.ends_with(&argument)));
    });
    found
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c != '_' && !c.is_alphanumeric())
}

fn for_each_leaf(tokens: TokenStream, visit: &mut impl FnMut(TokenTree)) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => for_each_leaf(group.stream(), visit),
            leaf => visit(leaf),
        }
    }
}
