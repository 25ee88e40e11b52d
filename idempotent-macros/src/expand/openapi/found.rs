//! Finds `#[utoipa::path(…)]` among the attributes, on its own or inside a `cfg_attr`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Attribute, Meta, MetaList, Token, parse::Parser as _, parse_quote, punctuated::Punctuated,
};

/// A `#[utoipa::path(…)]`, taken off the item.
pub(super) struct Found {
    /// The attribute that contained it.
    attribute: Attribute,
    /// Its own tokens. They keep their spans, for lints about what they expand to.
    list: MetaList,
    /// The condition of the enclosing `cfg_attr`.
    pub(super) condition: Option<Meta>,
}

/// A `utoipa::path` within an attribute, and what remains of the attribute without it.
struct Part {
    list: MetaList,
    condition: Option<Meta>,
    left: Option<Meta>,
}

impl Found {
    /// Takes the first one; whatever else its `cfg_attr` contains stays.
    pub(super) fn take(attributes: &mut Vec<Attribute>) -> Option<Self> {
        let (index, part) = first(attributes.iter().map(|attribute| &attribute.meta))?;
        let attribute = attributes[index].clone();
        match part.left {
            Some(left) => attributes[index].meta = left,
            None => drop(attributes.remove(index)),
        }
        let Part { list, condition, .. } = part;
        Some(Self { attribute, list, condition })
    }

    /// The tokens in its parentheses.
    pub(super) fn arguments(&self) -> &TokenStream {
        &self.list.tokens
    }

    /// The attribute with other arguments, in place of the one that was taken.
    pub(super) fn with(self, arguments: TokenStream) -> Attribute {
        let Self { mut attribute, mut list, condition } = self;
        list.tokens = arguments;
        match (&mut attribute.meta, condition) {
            (Meta::List(outer), Some(condition)) => outer.tokens = quote!(#condition, #list),
            (meta, _) => *meta = Meta::List(list),
        }
        attribute
    }
}

fn first<'a>(metas: impl Iterator<Item = &'a Meta>) -> Option<(usize, Part)> {
    metas.enumerate().find_map(|(index, meta)| Some((index, Part::of(meta)?)))
}

impl Part {
    fn of(meta: &Meta) -> Option<Self> {
        let Meta::List(list) = meta else { return None };
        if list.path.is_ident("cfg_attr") {
            return Self::of_cfg_attr(&list.tokens);
        }
        let mut names = list.path.segments.iter().rev().map(|segment| &segment.ident);
        let is_path = names.next()? == "path" && names.next()? == "utoipa";
        is_path.then(|| Self { list: list.clone(), condition: None, left: None })
    }

    fn of_cfg_attr(tokens: &TokenStream) -> Option<Self> {
        let parser = Punctuated::<Meta, Token![,]>::parse_terminated;
        let mut metas: Vec<Meta> = parser.parse2(tokens.clone()).ok()?.into_iter().collect();
        let (index, part) = first(metas.iter().skip(1))?;
        match part.left {
            Some(left) => metas[index + 1] = left,
            None => drop(metas.remove(index + 1)),
        }
        let left = (metas.len() > 1).then(|| parse_quote!(cfg_attr(#(#metas),*)));
        let condition = metas.swap_remove(0);
        let condition = match part.condition {
            Some(inner) => parse_quote!(all(#condition, #inner)),
            None => condition,
        };
        Some(Self { condition: Some(condition), left, ..part })
    }
}
