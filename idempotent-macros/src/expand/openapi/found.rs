//! Where `#[utoipa::path(…)]` stands among the attributes: alone, or in a `cfg_attr`.

use proc_macro2::TokenStream;
use syn::{
    Attribute, Meta, MetaList, Path, Token, parse::Parser as _, parse_quote, punctuated::Punctuated,
};

/// A `#[utoipa::path(…)]`, taken off the item.
pub(super) struct Found {
    /// What it stood in.
    attribute: Attribute,
    path: Path,
    /// What stands in its brackets.
    pub(super) arguments: TokenStream,
    /// That of its `cfg_attr`.
    pub(super) condition: Option<Meta>,
}

/// One in an attribute, and what is left of the attribute without it.
struct Part {
    path: Path,
    arguments: TokenStream,
    condition: Option<Meta>,
    left: Option<Meta>,
}

impl Found {
    /// Takes the first one; what stands beside it in a `cfg_attr` is left.
    pub(super) fn take(attributes: &mut Vec<Attribute>) -> Option<Self> {
        let (index, part) = first(attributes.iter().map(|attribute| &attribute.meta))?;
        let attribute = attributes[index].clone();
        match part.left {
            Some(left) => attributes[index].meta = left,
            None => drop(attributes.remove(index)),
        }
        let Part { path, arguments, condition, .. } = part;
        Some(Self { attribute, path, arguments, condition })
    }

    /// The attribute with other arguments, in the place of the one that was taken.
    pub(super) fn with(self, arguments: &TokenStream) -> Attribute {
        let Self { mut attribute, path, condition, .. } = self;
        attribute.meta = match condition {
            Some(condition) => parse_quote!(cfg_attr(#condition, #path(#arguments))),
            None => parse_quote!(#path(#arguments)),
        };
        attribute
    }
}

fn first<'a>(metas: impl Iterator<Item = &'a Meta>) -> Option<(usize, Part)> {
    metas.enumerate().find_map(|(index, meta)| Some((index, Part::of(meta)?)))
}

impl Part {
    fn of(meta: &Meta) -> Option<Self> {
        let Meta::List(MetaList { path, tokens, .. }) = meta else { return None };
        if path.is_ident("cfg_attr") {
            return Self::of_cfg_attr(tokens);
        }
        let mut names = path.segments.iter().rev().map(|segment| &segment.ident);
        let is_path = names.next()? == "path" && names.next()? == "utoipa";
        is_path.then(|| Self {
            path: path.clone(),
            arguments: tokens.clone(),
            condition: None,
            left: None,
        })
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
