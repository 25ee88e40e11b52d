//! Whether a type can be a handler parameter, as far as its name tells.

use proc_macro2::Span;
use syn::{
    GenericArgument, Pat, PatType, PathArguments, PathSegment, Type, punctuated::Punctuated,
};

/// Why `parameter` cannot be at its position, if it cannot.
pub(super) fn fault(parameter: &PatType, more_follow: bool) -> Option<syn::Error> {
    let ty = &parameter.ty;
    if let Some(borrow) = first_borrow(ty) {
        return Some(syn::Error::new(
            borrow,
            "a parameter cannot borrow because the handler may outlive the request: use an owned type, such as `String`",
        ));
    }
    let name = last_segment(ty)?;
    let ident = &name.ident;
    if name.arguments.is_empty() && PRIMITIVES.iter().any(|primitive| ident == primitive) {
        let value = match &*parameter.pat {
            Pat::Ident(binding) => binding.ident.to_string(),
            _ => "value".to_owned(),
        };
        return Some(syn::Error::new(
            ident.span(),
            format!(
                "`{ident}` is not an extractor: extract it, such as `Path({value}): Path<{ident}>`"
            ),
        ));
    }
    let body = match (ident.to_string().as_str(), &name.arguments) {
        ("Option" | "Result", PathArguments::AngleBracketed(arguments)) => {
            match arguments.args.first()? {
                GenericArgument::Type(inner) => &last_segment(inner)?.ident,
                _ => return None,
            }
        }
        _ => ident,
    };
    (more_follow && BODY_EXTRACTORS.iter().any(|extractor| body == extractor)).then(|| {
        syn::Error::new(
            body.span(),
            format!("`{body}` consumes the request body, so it must be the last parameter: move it to the end"),
        )
    })
}

const PRIMITIVES: [&str; 17] = [
    "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32",
    "u64", "u128", "usize", "str",
];

/// Extractors whose names mean nothing else. `Request` is left to the compiler: it names many
/// things.
const BODY_EXTRACTORS: [&str; 8] =
    ["Body", "Bytes", "Form", "Json", "JsonLines", "Multipart", "RawForm", "String"];

fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(path) if path.qself.is_none() => path.path.segments.last(),
        Type::Group(group) => last_segment(&group.elem),
        Type::Paren(paren) => last_segment(&paren.elem),
        _ => None,
    }
}

/// The first place where `ty` borrows for less than `'static`.
fn first_borrow(ty: &Type) -> Option<Span> {
    let any = |types: &Punctuated<Type, _>| types.iter().find_map(first_borrow);
    match ty {
        Type::Reference(reference) => match &reference.lifetime {
            Some(lifetime) if lifetime.ident == "static" => first_borrow(&reference.elem),
            _ => Some(reference.and_token.span),
        },
        Type::Path(path) => path.path.segments.iter().find_map(|segment| {
            let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
            arguments.args.iter().find_map(|argument| match argument {
                GenericArgument::Type(ty) => first_borrow(ty),
                _ => None,
            })
        }),
        Type::Tuple(tuple) => any(&tuple.elems),
        Type::Array(array) => first_borrow(&array.elem),
        Type::Slice(slice) => first_borrow(&slice.elem),
        Type::Paren(paren) => first_borrow(&paren.elem),
        Type::Group(group) => first_borrow(&group.elem),
        _ => None,
    }
}
