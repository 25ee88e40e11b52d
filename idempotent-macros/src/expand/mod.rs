//! Turns the options and the function into the handler that is compiled.
//!
//! ```text
//! // Input
//! #[idempotent(principal = user.id)]
//! async fn invite(user: User, Json(body): Json<Invite>) -> Result<Response, AppError> { … }
//!
//! // Output
//! async fn invite(user: User, body: Idempotent<Json<Invite>>) -> Response where {
//!     static __POLICY: Policy = Policy::DEFAULT;
//!     let __known = Idempotent::probe(&body).known();
//!     return Idempotent::run(body, &__POLICY, __known, <Result<Response, AppError> as IntoResponse>::into_response, move |__evaluated| {
//!         if let Some(__evaluated) = __evaluated {
//!             __evaluated.principal(OptionalDisplay::text(&(user.id)));
//!         }
//!         move |Json(body): Json<Invite>, _| {
//!             let __future = async move {
//!                 let _ = &user; if false { return output::<Result<Response, AppError>>(); let _ = &body; }
//!                 '__body: { … }
//!             };
//!             __future
//!         }
//!     }).await;
//! }
//! ```
//!
//! The expansion uses closures because a nested function cannot name `Self` or an impl's generics,
//! and because closures see the handler's own bindings, which keeps lints about those exact. The
//! outer closure is called before the last parameter is extracted, the inner one after; the
//! expressions go into the outer one if possible. The dead `return` gives the body the return type
//! it would have in the handler itself. Only `into_response` requires that type to be a response,
//! so the compiler reports a violation once.
//!
//! No lint is added and none is hidden. The label keeps `unused_braces` away from a one-line body,
//! and `__future` keeps `closure_returning_async_block` away from the closure. `where` and the
//! braces make the function end where the user's does: a function that ends in generated tokens
//! counts as a macro's, and lints about it are silenced. It uses `return`, because
//! `implicit_return` would otherwise point at code the user cannot see.
//!
//! Most spans are those of the user's tokens, so that compiler errors about a type, the body or the
//! handler as a whole point at the type, the body or the handler's name.

mod expressions;
mod library;
mod names;
pub(crate) mod openapi;
mod output;
mod parameters;
mod policy;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Lifetime, PatType, parse_quote};

use self::{
    expressions::{Evaluation, Stage},
    library::Library,
    output::Output,
    parameters::{Kept, Last},
};
use crate::{item::Function, options::Options};

pub(crate) fn expand(options: &Options, mut function: Function) -> TokenStream {
    if let Some(predicate) = parameters::take_cfg_of_last(&mut function) {
        // Only the compiler knows which parameter is last, so emit one handler for each case.
        let mut without = function.clone();
        without.signature.inputs.pop();
        function.attributes.insert(0, parse_quote!(#[cfg(#predicate)]));
        without.attributes.insert(0, parse_quote!(#[cfg(not(#predicate))]));
        let (with, without) = (expand(options, function), expand(options, without));
        return quote!(#with #without);
    }
    let Function { attributes, visibility, mut signature, brace, body, refused } = function;
    let library = Library(options.krate.value());
    let private = library.here();

    let Kept { read, unread } = parameters::keep(options, &mut signature, &body);
    let output = Output::replace(&library, &mut signature);
    let Last { argument, parameter, names } = Last::wrap(&library, &mut signature);
    let stage = Stage::of(options, &names);
    let policy = policy::policy(&library, options, stage);
    let (early, late) = match stage {
        Stage::BeforeExtraction => (Evaluation::of(&library, options), Evaluation::nothing()),
        Stage::AfterExtraction => (Evaluation::nothing(), Evaluation::of(&library, options)),
    };

    let refused = refused.iter().map(
        |PatType { attrs, pat, ty, .. }| quote!(#(#attrs)* let #pat: #ty = #private::output();),
    );
    let declared = output.declare(&unread);
    let Output { respond, end, .. } = output;
    // A separate block: items may come first in it, and errors about its value point at it. With
    // the label's span it would count as a macro's block, in which lints are silent.
    let label = Lifetime::new("'__body", brace.span.open());
    let mut block = quote!(#label:);
    brace.surround(&mut block, |tokens| tokens.extend(body));
    let future = quote_spanned!(brace.span.open()=> async move { #read #declared #block });

    let Evaluation { parameter: early_parameter, statements: early } = early;
    let Evaluation { parameter: late_parameter, statements: late } = late;
    // With the name's span: errors about the handler as a whole are shown there.
    let name = signature.ident.span();
    let named = library.at(name);
    let known = Ident::new("__known", Span::mixed_site());
    let ready = Ident::new("__future", Span::mixed_site());
    let handler = quote_spanned! {name=>
        move |#early_parameter| {
            #(#refused)*
            #early
            move |#parameter, #late_parameter| {
                #late
                let #ready = #future;
                #ready
            }
        }
    };
    let run = quote_spanned! {name=>
        return #named::Idempotent::run(#argument, &__POLICY, #known, #respond, #handler).await;
    };
    // In place of the user's own braces: a function that ends elsewhere counts as a macro's, and
    // lints about it (`dead_code`, `missing_docs`) are silent.
    let mut whole = TokenStream::new();
    brace.surround(&mut whole, |tokens| {
        tokens.extend(quote! {
            static __POLICY: #private::Policy = #policy;
            let #known = #private::Idempotent::probe(&#argument).known();
            #run
        });
    });
    quote!(#(#attributes)* #visibility #signature #end #whole)
}
