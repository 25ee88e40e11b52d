//! Where `#[utoipa::path(…)]` stands among the attributes: alone, or in a `cfg_attr`.

use proc_macro2::TokenStream;
use quote::{ToTokens as _, quote};
use syn::{Attribute, Meta, MetaList, Path, Token, parse_quote, punctuated::Punctuated};

/// A `#[utoipa::path(…)]`, taken off the item.
pub(super) struct Found {
    path: Path,
    /// What stands in its brackets.
    pub(super) arguments: TokenStream,
    /// That of its `cfg_attr`.
    pub(super) condition: Option<Meta>,
}

impl Found {
    /// Takes the first one; what stands beside it in a `cfg_attr` is left.
    pub(super) fn take(attributes: &mut Vec<Attribute>) -> Option<Self> {
        let (index, found, left) =
            attributes.iter().enumerate().find_map(|(index, attribute)| {
                let (found, left) = Self::in_meta(&attribute.meta)?;
                Some((index, found, left))
            })?;
        match left {
            Some(left) => attributes[index].meta = left,
            None => drop(attributes.remove(index)),
        }
        Some(found)
    }

    /// That in one attribute, and what is left of the attribute without it.
    fn in_meta(meta: &Meta) -> Option<(Self, Option<Meta>)> {
        let Meta::List(MetaList { path, tokens, .. }) = meta else { return None };
        if path.is_ident("cfg_attr") {
            return Self::in_cfg_attr(tokens);
        }
        let mut segments = path.segments.iter().rev();
        let [last, crate_] = [segments.next()?, segments.next()?];
        let is_path = last.ident == "path" && crate_.ident == "utoipa";
        is_path.then(|| {
            let found = Self { path: path.clone(), arguments: tokens.clone(), condition: None };
            (found, None)
        })
    }

    fn in_cfg_attr(tokens: &TokenStream) -> Option<(Self, Option<Meta>)> {
        let parser = Punctuated::<Meta, Token![,]>::parse_terminated;
        let parsed = syn::parse::Parser::parse2(parser, tokens.clone()).ok()?;
        let mut metas = parsed.into_iter();
        let condition = metas.next()?;
        let mut metas: Vec<Meta> = metas.collect();
        let (index, found, left) = metas.iter().enumerate().find_map(|(index, meta)| {
            let (found, left) = Self::in_meta(meta)?;
            Some((index, found, left))
        })?;
        match left {
            Some(left) => metas[index] = left,
            None => drop(metas.remove(index)),
        }
        let left = (!metas.is_empty()).then(|| parse_quote!(cfg_attr(#condition, #(#metas),*)));
        let condition = match found.condition {
            Some(inner) => parse_quote!(all(#condition, #inner)),
            None => condition,
        };
        Some((Self { condition: Some(condition), ..found }, left))
    }

    /// It with other arguments, as an attribute.
    pub(super) fn with(&self, arguments: &TokenStream) -> TokenStream {
        let path = self.path.to_token_stream();
        match &self.condition {
            Some(condition) => quote!(#[cfg_attr(#condition, #path(#arguments))]),
            None => quote!(#[#path(#arguments)]),
        }
    }
}
