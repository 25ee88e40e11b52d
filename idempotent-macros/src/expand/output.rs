//! The handler's return type: a response outside, what is declared inside.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{
    GenericArgument, Path, PathArguments, ReturnType, Signature, Token, Type, TypeParamBound,
    parse_quote, parse_quote_spanned, spanned::Spanned as _,
};

use super::library::Library;

/// Makes the handler return a response; gives what turns the declared type into one, and what
/// makes the body return the declared type.
pub(super) fn replace(
    library: &Library<'_>,
    signature: &mut Signature,
) -> (TokenStream, TokenStream) {
    let arrow = Token![->](Span::mixed_site());
    let mut declared = match std::mem::replace(&mut signature.output, ReturnType::Default) {
        ReturnType::Default => parse_quote_spanned!(signature.ident.span()=> ()),
        ReturnType::Type(_, ty) => *ty,
    };
    let at = declared.span();
    let private = library.at(at);
    if matches!(declared, Type::ImplTrait(_)) {
        // Kept as it is, the trait's import stays used, and a direct call gives what it says.
        signature.output = ReturnType::Type(arrow, Box::new(declared));
        return (quote_spanned!(at=> #private::IntoResponse::into_response), TokenStream::new());
    }
    let response = library.here();
    signature.output = ReturnType::Type(arrow, parse_quote!(#response::Response));
    let mut traits = Vec::new();
    erase_impl_trait(&mut declared, &mut traits);
    let respond = quote_spanned!(at=> <#declared as #private::IntoResponse>::into_response);
    let returned = quote_spanned!(at=> return #private::output::<#declared>());
    let returned = quote! {
        #(const _: () = {
            #[allow(unused_imports)]
            use #traits as _;
        };)*
        if false {
            #returned;
        }
    };
    (respond, returned)
}

/// Replaces every `impl Trait` inside of `ty` by `_`; gives the traits, whose imports would become
/// unused.
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
