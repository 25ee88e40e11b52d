//! The handler's return type: a response on the outside, the declared type on the inside.

use std::mem;

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens as _, quote, quote_spanned};
use syn::{
    GenericArgument, Path, PathArguments, ReturnType, Signature, Token, Type, TypeParamBound,
    WhereClause, parse_quote, parse_quote_spanned, spanned::Spanned as _,
};

use super::library::Library;

/// The handler's declared return type.
pub(super) struct Output {
    /// Turns a value of that type into a response.
    pub(super) respond: TokenStream,
    /// The end of the compiled signature.
    pub(super) end: TokenStream,
    /// Gives the body the declared type, in code that never runs. Nothing after it is reachable.
    returned: TokenStream,
    /// Whether the body may have any type.
    is_opaque: bool,
}

impl Output {
    /// Makes the handler return a response.
    pub(super) fn replace(library: &Library<'_>, signature: &mut Signature) -> Self {
        let declared = match mem::replace(&mut signature.output, ReturnType::Default) {
            ReturnType::Default => parse_quote_spanned!(signature.paren_token.span.close()=> ()),
            ReturnType::Type(_, ty) => *ty,
        };
        let arrow = Token![->](Span::mixed_site());
        if matches!(declared, Type::ImplTrait(_)) {
            let at = declared.span();
            let private = library.at(at);
            // Kept as declared, so that the trait's import stays used and a direct call returns
            // what it says.
            signature.output = ReturnType::Type(arrow, Box::new(declared));
            return Self {
                respond: quote_spanned!(at=> #private::IntoResponse::into_response),
                end: TokenStream::new(),
                returned: quote!(loop {}),
                is_opaque: true,
            };
        }
        let private = library.here();
        signature.output = ReturnType::Type(arrow, parse_quote!(#private::Response));
        let has_predicates = |clause: &WhereClause| !clause.predicates.is_empty();
        let end = if signature.generics.where_clause.as_ref().is_some_and(has_predicates) {
            TokenStream::new()
        } else {
            // The signature ends where the user's does: one that ends in generated tokens counts as
            // a macro's, and lints about it point at the attribute or are silent.
            Token![where](end(&declared)).into_token_stream()
        };
        let (respond, returned) = typed(library, declared);
        Self { respond, end, returned, is_opaque: false }
    }

    /// Gives the body its type, and makes it capture `kept`, in code that never runs.
    pub(super) fn declare(&self, kept: &TokenStream) -> TokenStream {
        if self.is_opaque && kept.is_empty() {
            return TokenStream::new();
        }
        let returned = &self.returned;
        quote!(if false { #returned #kept })
    }
}

/// Code that turns a value of the type `declared` into a response, and code that returns one.
fn typed(library: &Library<'_>, mut declared: Type) -> (TokenStream, TokenStream) {
    let at = declared.span();
    let private = library.at(at);
    let mut traits = Vec::new();
    erase_impl_trait(&mut declared, &mut traits);
    let respond = quote_spanned!(at=> <#declared as #private::IntoResponse>::into_response);
    let returned = quote_spanned!(at=> return #private::output::<#declared>());
    let returned = quote! {
        #(const _: () = {
            #[allow(unused_imports)]
            use #traits as _;
        };)*
        #returned;
    };
    (respond, returned)
}

/// The span of the last token of `ty`.
fn end(ty: &Type) -> Span {
    match ty.to_token_stream().into_iter().last() {
        Some(TokenTree::Group(group)) => group.span_close(),
        Some(token) => token.span(),
        None => ty.span(),
    }
}

/// Replaces every `impl Trait` inside `ty` with `_`, and collects the traits, whose imports would
/// otherwise become unused.
fn erase_impl_trait(ty: &mut Type, traits: &mut Vec<Path>) {
    match ty {
        Type::ImplTrait(found) => {
            traits.extend(found.bounds.iter().filter_map(|bound| match bound {
                TypeParamBound::Trait(bound) => {
                    let mut path = bound.path.clone();
                    let segments = path.segments.iter_mut();
                    segments.for_each(|segment| segment.arguments = PathArguments::None);
                    Some(path)
                }
                _ => None,
            }));
            *ty = parse_quote!(_);
        }
        Type::Path(path) => {
            for segment in &mut path.path.segments {
                if let PathArguments::AngleBracketed(arguments) = &mut segment.arguments {
                    for argument in &mut arguments.args {
                        if let GenericArgument::Type(ty) = argument {
                            erase_impl_trait(ty, traits);
                        }
                    }
                }
            }
        }
        Type::Tuple(tuple) => tuple.elems.iter_mut().for_each(|ty| erase_impl_trait(ty, traits)),
        Type::Array(array) => erase_impl_trait(&mut array.elem, traits),
        Type::Paren(paren) => erase_impl_trait(&mut paren.elem, traits),
        Type::Group(group) => erase_impl_trait(&mut group.elem, traits),
        _ => {}
    }
}
