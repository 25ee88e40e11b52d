//! Meaning to tokens: the handler as it is compiled.
//!
//! ```text
//! // Input
//! #[idempotent(principal = user.id)]
//! async fn invite(user: User, Json(body): Json<Invite>) -> Result<Response, AppError> { body }
//!
//! // Output
//! async fn invite(user: User, __call: Call<Json<Invite>>) -> Response {
//!     static __POLICY: Policy = Policy { ..Policy::DEFAULT };
//!     run(&__POLICY, __call, move |Json(body): Json<Invite>, __facts| {
//!         if let Some(__facts) = __facts {
//!             __facts.principal(Value::new(&(user.id)).text());
//!         }
//!         async move {
//!             if false { return output::<Result<Response, AppError>>(); }
//!             body
//!         }
//!     }).await
//! }
//! ```
//!
//! A closure, because a nested function cannot name `Self` or an impl's generics, and because it
//! sees the handler's own bindings: the lints about them stay exact. The dead `return` gives the
//! body the return type that it would have in the handler itself.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{
    Expr, FnArg, GenericArgument, Ident, Pat, PatType, PathArguments, ReturnType, Signature, Token,
    Type, TypeImplTrait, parse_quote, spanned::Spanned as _,
};

use crate::{
    parse::Function,
    validate::{Config, Fingerprint, Format, Replay},
};

pub(crate) fn expand(config: &Config, mut function: Function) -> TokenStream {
    if let Some(predicate) = take_cfg_of_last_parameter(&mut function) {
        // Which parameter is the last one is known only to the compiler: one handler for each case.
        let mut without = function.clone();
        without.signature.inputs.pop();
        let (with, without) = (expand(config, function), expand(config, without));
        return quote!(#[cfg(#predicate)] #with #[cfg(not(#predicate))] #without);
    }
    let Function { attributes, visibility, mut signature, brace, body } = function;
    let private = &config.krate;
    let private = quote!(#private::__private);
    let call = Ident::new("__call", Span::mixed_site());
    let facts = Ident::new("__facts", Span::mixed_site());

    let returned = replace_output(&private, &mut signature);
    let kept = keep_unnamed_values(&mut signature);
    let last = replace_last_parameter(&private, &mut signature, &call);
    let policy = policy(&private, config);
    let (facts, evaluate) = evaluate(&private, config, &facts);
    let mut future = TokenStream::new();
    brace.surround(&mut future, |tokens| tokens.extend(quote!(#kept #returned #body)));

    quote! {
        #(#attributes)*
        #visibility #signature {
            static __POLICY: #private::Policy = #policy;
            #private::run(&__POLICY, #call, move |#last, #facts| {
                #evaluate
                async move #future
            })
            .await
        }
    }
}

/// Takes `#[cfg(predicate)]` off the last parameter.
fn take_cfg_of_last_parameter(function: &mut Function) -> Option<TokenStream> {
    let FnArg::Typed(last) = function.signature.inputs.last_mut()? else { return None };
    let position = last.attrs.iter().position(|attribute| attribute.path().is_ident("cfg"))?;
    last.attrs.remove(position).parse_args().ok()
}

/// Makes the handler return a response, and gives its body the declared return type instead.
fn replace_output(private: &TokenStream, signature: &mut Signature) -> TokenStream {
    let response: Type = parse_quote!(#private::Response);
    let arrow = Token![->](Span::mixed_site());
    let declared =
        std::mem::replace(&mut signature.output, ReturnType::Type(arrow, Box::new(response)));
    let mut declared = match declared {
        ReturnType::Default => parse_quote!(()),
        ReturnType::Type(arrow, ty) if matches!(*ty, Type::ImplTrait(_)) => {
            // Kept as it is, the trait's import stays used, and a direct call gives what it says.
            signature.output = ReturnType::Type(arrow, ty);
            return TokenStream::new();
        }
        ReturnType::Type(_, ty) => *ty,
    };
    let mut erased = Vec::new();
    erase_impl_trait(&mut declared, &mut erased);
    // Traits named only there stay used, unless they may name what a nested item cannot.
    let mentions = if signature.generics.params.is_empty() { erased } else { Vec::new() };
    let output = quote_spanned!(declared.span()=> #private::output::<#declared>());
    quote! {
        #(const _: () = {
            #[allow(dead_code)]
            fn __mention(_: #mentions) {}
        };)*
        if false {
            return #output;
        }
    }
}

/// Replaces every `impl Trait` inside of `ty` by `_`.
fn erase_impl_trait(ty: &mut Type, erased: &mut Vec<TypeImplTrait>) {
    match ty {
        Type::ImplTrait(found) => {
            erased.push(found.clone());
            *ty = parse_quote!(_);
        }
        Type::Path(path) => {
            for segment in &mut path.path.segments {
                if let PathArguments::AngleBracketed(arguments) = &mut segment.arguments {
                    for argument in &mut arguments.args {
                        if let GenericArgument::Type(ty) = argument {
                            erase_impl_trait(ty, erased);
                        }
                    }
                }
            }
        }
        Type::Tuple(tuple) => tuple.elems.iter_mut().for_each(|ty| erase_impl_trait(ty, erased)),
        Type::Array(array) => erase_impl_trait(&mut array.elem, erased),
        Type::Paren(paren) => erase_impl_trait(&mut paren.elem, erased),
        Type::Group(group) => erase_impl_trait(&mut group.elem, erased),
        _ => {}
    }
}

/// Moves into the body what it does not name: a `_guard` must live as long as the body runs.
///
/// Only names that no lint watches are mentioned, so an unused parameter is still reported.
fn keep_unnamed_values(signature: &mut Signature) -> TokenStream {
    let mut kept = TokenStream::new();
    for (index, parameter) in signature.inputs.iter_mut().enumerate() {
        let FnArg::Typed(parameter) = parameter else { continue };
        if matches!(*parameter.pat, Pat::Wild(_)) {
            let name = format_ident!("__unnamed{index}", span = Span::mixed_site());
            *parameter.pat = parse_quote!(#name);
        }
        let conditions =
            parameter.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg"));
        let mut names = Vec::new();
        underscored(&parameter.pat, &mut names);
        if !names.is_empty() {
            kept.extend(quote! {
                #(#conditions)*
                #[allow(clippy::used_underscore_binding)]
                let _ = (#(&#names),*);
            });
        }
    }
    kept
}

/// The bindings of `pattern` that begin with an underscore.
fn underscored<'a>(pattern: &'a Pat, names: &mut Vec<&'a Ident>) {
    let mut all = |patterns: &mut dyn Iterator<Item = &'a Pat>| {
        patterns.for_each(|pattern| underscored(pattern, names));
    };
    match pattern {
        Pat::Tuple(tuple) => all(&mut tuple.elems.iter()),
        Pat::TupleStruct(tuple) => all(&mut tuple.elems.iter()),
        Pat::Struct(fields) => all(&mut fields.fields.iter().map(|field| &*field.pat)),
        Pat::Ident(binding) if binding.ident.to_string().starts_with('_') => {
            names.push(&binding.ident);
        }
        _ => {}
    }
}

/// Puts `Call<E>` in the place of the last parameter `E`; gives the parameter for the closure.
fn replace_last_parameter(
    private: &TokenStream,
    signature: &mut Signature,
    call: &Ident,
) -> TokenStream {
    let Some(FnArg::Typed(last)) = signature.inputs.pop() else {
        signature.inputs.push(parse_quote!(#call: #private::Call<()>));
        return quote!((): ());
    };
    let PatType { attrs, pat, ty, .. } = last;
    // With the type's own span, so that an error about the extractor points at it.
    let wrapped = quote_spanned!(ty.span()=> #private::Call<#ty>);
    signature.inputs.push(parse_quote!(#call: #wrapped));
    quote!(#(#attrs)* #pat: #ty)
}

/// The `static` that holds the options; what is not given keeps its default.
fn policy(private: &TokenStream, config: &Config) -> TokenStream {
    let duration = |duration: &Duration| {
        let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
        quote!(::core::time::Duration::new(#seconds, #nanos))
    };
    let mut fields = Vec::new();
    fields.extend(config.ttl.as_ref().map(duration).map(|ttl| quote!(ttl: #ttl)));
    fields.extend(config.header.as_ref().map(|names| quote!(header: &[#(#names),*])));
    fields.extend(config.format.map(|format| {
        let format = match format {
            Format::Uuid => quote!(Uuid),
            Format::UuidV4 => quote!(UuidV4),
            Format::Any => quote!(Any),
        };
        quote!(format: #private::Format::#format)
    }));
    if config.required {
        fields.push(quote!(required: true));
    }
    fields.extend(config.replay.as_ref().map(|replay| match replay {
        Replay::All => quote!(replay: #private::Replay::ALL),
        Replay::Some { classes, codes } => {
            quote!(replay: #private::Replay { classes: #classes, codes: &[#(#codes),*] })
        }
    }));
    fields.extend(config.wait.as_ref().map(duration).map(|wait| quote!(wait: #wait)));
    if config.key.is_some() {
        fields.push(quote!(key: #private::KeySource::Expression));
    }
    match config.fingerprint {
        Fingerprint::Request => {}
        Fingerprint::None => fields.push(quote!(fingerprint: #private::FingerprintSource::None)),
        Fingerprint::Expression(_) => {
            fields.push(quote!(fingerprint: #private::FingerprintSource::Expression));
        }
    }
    fields.extend(
        config.scope.as_ref().map(|scope| quote!(scope: ::core::option::Option::Some(#scope))),
    );
    if fields.is_empty() {
        quote!(#private::Policy::DEFAULT)
    } else {
        quote!(#private::Policy { #(#fields,)* ..#private::Policy::DEFAULT })
    }
}

/// The closure's second parameter, and what evaluates the expressions into it.
fn evaluate(private: &TokenStream, config: &Config, facts: &Ident) -> (TokenStream, TokenStream) {
    let text = |expression: &Expr| quote_spanned!(expression.span()=> #private::Value::new(&(#expression)).text());
    let mut calls = Vec::new();
    if let Some(principal) = &config.principal {
        let text = text(principal);
        calls.push(quote!(#facts.principal(#text);));
    }
    if let Fingerprint::Expression(expression) = &config.fingerprint {
        let value = quote_spanned!(expression.span()=> &(#expression));
        calls.push(quote!(#facts.fingerprint(#value);));
    }
    let mut calls = quote!(#(#calls)*);
    if let Some(key) = &config.key {
        let text = text(key);
        // Without a key nothing is looked up, so nothing else is evaluated.
        calls = if calls.is_empty() {
            quote!(#facts.key(#text);)
        } else {
            quote!(if #facts.key(#text) { #calls })
        };
    }
    if calls.is_empty() {
        return (quote!(_), TokenStream::new());
    }
    let evaluate = quote! {
        if let ::core::option::Option::Some(#facts) = #facts {
            #calls
        }
    };
    (quote!(#facts), evaluate)
}
