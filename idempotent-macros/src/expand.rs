//! Meaning to tokens: the handler as it is compiled.
//!
//! ```text
//! // Input
//! #[idempotent(principal = user.id)]
//! async fn invite(user: User, Json(body): Json<Invite>) -> Result<Response, AppError> { body }
//!
//! // Output
//! async fn invite(user: User, __last: LastParameter<Json<Invite>>) -> Response {
//!     static __POLICY: Policy = Policy::DEFAULT;
//!     LastParameter::run(__last, &__POLICY, <Result<Response, AppError> as IntoResponse>::into_response, move |Json(body): Json<Invite>, __facts| {
//!         if let Some(__facts) = __facts {
//!             __facts.principal(OptionalDisplay::text(&(user.id)));
//!         }
//!         async move {
//!             let _ = (&user, &body);
//!             if false { return output::<Result<Response, AppError>>(); }
//!             { body }
//!         }
//!     }).await
//! }
//! ```
//!
//! A closure, because a nested function cannot name `Self` or an impl's generics, and because it
//! sees the handler's own bindings: the lints about them stay exact. The dead `return` gives the
//! body the return type that it would have in the handler itself; `into_response` alone asks of
//! that type that it is a response, so that the compiler says so once.
//!
//! Most spans are those of the user's tokens: an error of the compiler about a type, the body or
//! the handler as a whole has to point at the type, the body or the handler's name.

use std::{collections::HashMap, time::Duration};

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens as _, format_ident, quote, quote_spanned};
use syn::{
    Expr, FnArg, GenericArgument, Ident, Pat, PatType, Path, PathArguments, ReturnType, Signature,
    Token, Type, TypeParamBound, parse_quote, parse_quote_spanned, spanned::Spanned as _,
};

use crate::{
    parse::{Function, Slot},
    validate::{Config, Fingerprint, Format, Replay},
};

pub(crate) fn expand(config: &Config, mut function: Function) -> TokenStream {
    if let Some(predicate) = take_cfg_of_last_parameter(&mut function) {
        // Which parameter is the last one is known only to the compiler: one handler for each case.
        let mut without = function.clone();
        without.signature.inputs.pop();
        function.attributes.insert(0, parse_quote!(#[cfg(#predicate)]));
        without.attributes.insert(0, parse_quote!(#[cfg(not(#predicate))]));
        let (with, without) = (expand(config, function), expand(config, without));
        return quote!(#with #without);
    }
    let Function { attributes, visibility, mut signature, brace, body, refused } = function;
    let private = &private_at(config, Span::mixed_site());
    let argument = Ident::new("__last", Span::mixed_site());
    let facts = Ident::new("__facts", Span::mixed_site());

    let (respond, returned) = replace_output(config, &mut signature);
    let kept = keep_parameters(config, &mut signature, &body);
    let last = replace_last_parameter(private, &mut signature, &argument);
    let policy = policy(private, config);
    let (facts, evaluate) = evaluate(config, &facts);
    let refused = refused.iter().map(
        |PatType { attrs, pat, ty, .. }| quote!(#(#attrs)* let #pat: #ty = #private::output();),
    );
    // A block of its own: items may stand first in it, and errors about its value show it.
    let mut block = TokenStream::new();
    brace.surround(&mut block, |tokens| tokens.extend(body));
    let future = quote_spanned!(brace.span.open()=> async move { #kept #returned #block });

    // With the name's span: what is wrong with the handler as a whole is shown there.
    let name = signature.ident.span();
    let run = private_at(config, name);
    let run = quote_spanned! {name=>
        #run::LastParameter::run(#argument, &__POLICY, #respond, move |#last, #facts| {
            #(#refused)*
            #evaluate
            #future
        })
        .await
    };
    quote! {
        #(#attributes)*
        #visibility #signature {
            static __POLICY: #private::Policy = #policy;
            #run
        }
    }
}

/// The path of the runtime's private items, where an error about it is to be shown.
fn private_at(config: &Config, at: Span) -> TokenStream {
    let krate = match &config.krate {
        None => quote_spanned!(at=> ::idempotent_axum),
        // Its names keep their meaning, so that `$crate` can be among them.
        Some(path) => path
            .to_token_stream()
            .into_iter()
            .map(|mut token| {
                token.set_span(token.span().located_at(at));
                token
            })
            .collect(),
    };
    // Marked as generated, or `unused_qualifications` would have the user shorten the path.
    let private = Ident::new("__private", Span::mixed_site().located_at(at));
    quote_spanned!(at=> #krate::#private)
}

/// Takes `#[cfg(predicate)]` off the last parameter.
fn take_cfg_of_last_parameter(function: &mut Function) -> Option<TokenStream> {
    let FnArg::Typed(last) = function.signature.inputs.last_mut()? else { return None };
    let position = last.attrs.iter().position(|attribute| attribute.path().is_ident("cfg"))?;
    last.attrs.remove(position).parse_args().ok()
}

/// Makes the handler return a response; gives what turns the declared type into one, and what
/// makes the body return the declared type.
fn replace_output(config: &Config, signature: &mut Signature) -> (TokenStream, TokenStream) {
    let arrow = Token![->](Span::mixed_site());
    let mut declared = match std::mem::replace(&mut signature.output, ReturnType::Default) {
        ReturnType::Default => parse_quote_spanned!(signature.ident.span()=> ()),
        ReturnType::Type(_, ty) => *ty,
    };
    let at = declared.span();
    let private = private_at(config, at);
    if matches!(declared, Type::ImplTrait(_)) {
        // Kept as it is, the trait's import stays used, and a direct call gives what it says.
        signature.output = ReturnType::Type(arrow, Box::new(declared));
        return (quote_spanned!(at=> #private::IntoResponse::into_response), TokenStream::new());
    }
    let response = private_at(config, Span::mixed_site());
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

/// Moves whole parameters into the body: a guard must live as long as the body runs, whether the
/// body names it, a field beside it, or only an expression of the attribute does.
///
/// A name that nobody uses is mentioned only where no lint watches it, so that an unused parameter
/// is still reported.
fn keep_parameters(config: &Config, signature: &mut Signature, body: &TokenStream) -> TokenStream {
    let mut used = HashMap::new();
    names_in(body.clone(), &mut used);
    for expression in config.expressions() {
        names_in(expression.to_token_stream(), &mut used);
    }
    let (mut kept, mut unconditional) = (TokenStream::new(), Vec::new());
    for (index, parameter) in signature.inputs.iter_mut().enumerate() {
        let FnArg::Typed(parameter) = parameter else { continue };
        if matches!(*parameter.pat, Pat::Wild(_)) {
            let name = format_ident!("__unnamed{index}", span = Span::mixed_site());
            *parameter.pat = parse_quote!(#name);
        }
        let mut names = Vec::new();
        bindings(&parameter.pat, &mut names);
        names.retain(|name| used.contains_key(name) || name.to_string().starts_with('_'));
        // An error about the name is to be shown where it is used.
        let names = names.into_iter().cloned().map(|mut name| {
            let at = used.get(&name).map_or(name.span(), |at| name.span().located_at(*at));
            name.set_span(at);
            name
        });
        let conditions: Vec<_> =
            parameter.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect();
        if conditions.is_empty() {
            unconditional.extend(names);
        } else {
            kept.extend(
                mention(&names.collect::<Vec<_>>()).map(|kept| quote!(#(#conditions)* #kept)),
            );
        }
    }
    kept.extend(mention(&unconditional));
    kept
}

fn mention(names: &[Ident]) -> Option<TokenStream> {
    let underscored = names.iter().any(|name| name.to_string().starts_with('_'));
    let allowed = underscored.then(|| quote!(#[allow(clippy::used_underscore_binding)]));
    (!names.is_empty()).then(|| quote!(#allowed let _ = (#(&#names),*);))
}

/// Where each name stands first.
fn names_in(tokens: TokenStream, names: &mut HashMap<Ident, Span>) {
    for token in tokens {
        match token {
            TokenTree::Ident(name) => {
                let at = name.span();
                names.entry(name).or_insert(at);
            }
            TokenTree::Group(group) => names_in(group.stream(), names),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

fn bindings<'a>(pattern: &'a Pat, names: &mut Vec<&'a Ident>) {
    let mut all = |patterns: &mut dyn Iterator<Item = &'a Pat>| {
        patterns.for_each(|pattern| bindings(pattern, names));
    };
    match pattern {
        Pat::Tuple(tuple) => all(&mut tuple.elems.iter()),
        Pat::TupleStruct(tuple) => all(&mut tuple.elems.iter()),
        Pat::Slice(slice) => all(&mut slice.elems.iter()),
        Pat::Struct(fields) => all(&mut fields.fields.iter().map(|field| &*field.pat)),
        Pat::Reference(reference) => bindings(&reference.pat, names),
        Pat::Paren(inner) => bindings(&inner.pat, names),
        Pat::Ident(binding) => {
            names.push(&binding.ident);
            if let Some((_, inner)) = &binding.subpat {
                bindings(inner, names);
            }
        }
        _ => {}
    }
}

/// Puts `LastParameter<E>` in the place of the last parameter `E`; gives the closure its parameter.
fn replace_last_parameter(
    private: &TokenStream,
    signature: &mut Signature,
    argument: &Ident,
) -> TokenStream {
    let Some(FnArg::Typed(last)) = signature.inputs.pop() else {
        signature.inputs.push(parse_quote!(#argument: #private::LastParameter<()>));
        return quote!((): ());
    };
    let PatType { attrs, pat, ty, .. } = last;
    // With the type's own span, so that an error about the extractor points at it.
    let wrapped = quote_spanned!(ty.span()=> #private::LastParameter<#ty>);
    signature.inputs.push(parse_quote!(#argument: #wrapped));
    quote!(#(#attrs)* #pat: #ty)
}

/// The `static` that holds the options; what is not given keeps its default.
///
/// Its fields are named by the options' own tokens, so an editor shows a field's documentation on
/// the option.
fn policy(private: &TokenStream, config: &Config) -> TokenStream {
    let duration = |duration: &Duration| {
        let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
        quote!(::core::time::Duration::new(#seconds, #nanos))
    };
    let mut fields = Vec::new();
    let mut field = |name: &Ident, value: TokenStream| fields.push(quote!(#name: #value));
    if let Some(Slot { name, value }) = &config.ttl {
        field(name, duration(value));
    }
    if let Some(Slot { name, value }) = &config.header {
        let count = value.len();
        // A static of its own: none may hold a reference to a `HeaderName` that is part of it.
        let names = quote! {{
            static NAMES: [#private::HeaderName; #count] =
                [#(#private::HeaderName::from_static(#value)),*];
            &NAMES
        }};
        field(name, names);
    }
    if let Some(Slot { name, value }) = &config.format {
        let format = match value {
            Format::Uuid => quote!(Uuid),
            Format::UuidV4 => quote!(UuidV4),
            Format::Any => quote!(Any),
        };
        field(name, quote!(#private::Format::#format));
    }
    if let Some(Slot { name, value: () }) = &config.required {
        field(name, quote!(true));
    }
    if let Some(Slot { name, value }) = &config.replay {
        field(
            name,
            match value {
                Replay::All => quote!(#private::Replay::ALL),
                Replay::Some { classes, codes } => {
                    quote!(#private::Replay { classes: #classes, codes: &[#(#codes),*] })
                }
            },
        );
    }
    if let Some(Slot { name, value }) = &config.wait {
        field(name, duration(value));
    }
    if let Some(Slot { name, .. }) = &config.key {
        field(name, quote!(#private::KeySource::Expression));
    }
    if let Some(Slot { name, value }) = &config.fingerprint {
        let source = match value {
            Fingerprint::Request => quote!(Request),
            Fingerprint::None => quote!(None),
            Fingerprint::Expression(_) => quote!(Expression),
        };
        field(name, quote!(#private::FingerprintSource::#source));
    }
    if let Some(Slot { name, value }) = &config.scope {
        field(name, quote!(::core::option::Option::Some(#value)));
    }
    if fields.is_empty() {
        quote!(#private::Policy::DEFAULT)
    } else {
        quote!(#private::Policy { #(#fields,)* ..#private::Policy::DEFAULT })
    }
}

/// The closure's second parameter, and what evaluates the expressions into it.
fn evaluate(config: &Config, facts: &Ident) -> (TokenStream, TokenStream) {
    let mut calls = Vec::new();
    if let Some(Slot { name, value }) = &config.principal {
        let text = text(config, value);
        calls.push(quote!(#facts.#name(#text);));
    }
    if let Some(Slot { name, value: Fingerprint::Expression(value) }) = &config.fingerprint {
        let borrowed = borrowed(value);
        let private = private_at(config, value.span());
        let hash = quote_spanned!(value.span()=> #private::Hash::hash);
        calls.push(quote!(#facts.#name(#borrowed, #hash);));
    }
    let mut calls = quote!(#(#calls)*);
    if let Some(Slot { name, value }) = &config.key {
        let text = text(config, value);
        let key = quote!(#facts.#name(#text));
        // Without a key nothing is looked up, so nothing else is evaluated.
        calls = if calls.is_empty() { quote!(#key;) } else { quote!(if #key { #calls }) };
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

/// The text of a `principal` or `key` expression's value.
fn text(config: &Config, value: &Expr) -> TokenStream {
    let at = value.span();
    let private = private_at(config, at);
    quote_spanned!(at=> #private::OptionalDisplay::text(&(#value)))
}

/// `(a, b)` and `[a, b]` are made of references, so that they take nothing from the body; they hash
/// the same.
fn borrowed(expression: &Expr) -> TokenStream {
    let at = expression.span();
    match expression {
        Expr::Tuple(tuple) => {
            let elements = tuple.elems.iter().map(borrowed);
            quote_spanned!(at=> &(#(#elements,)*))
        }
        Expr::Array(array) => {
            let elements = array.elems.iter().map(borrowed);
            quote_spanned!(at=> &[#(#elements,)*])
        }
        Expr::Group(group) => borrowed(&group.expr),
        Expr::Paren(paren) => borrowed(&paren.expr),
        _ => quote_spanned!(at=> &(#expression)),
    }
}
