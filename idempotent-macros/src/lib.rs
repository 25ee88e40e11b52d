//! The `#[idempotent]` attribute of [`idempotent-axum`](https://docs.rs/idempotent-axum).
//!
//! Three steps, a file each: `parse` reads tokens, `validate` says what they mean and reports
//! what is wrong with them, `expand` writes the handler. All behaviour at run time is in
//! `idempotent-runtime`.

mod expand;
mod parse;
mod validate;

use proc_macro2::TokenStream;
use quote::quote;

use crate::{
    parse::{Faults, Function, Options},
    validate::Config,
};

/// Makes an Axum handler safe to retry.
#[proc_macro_attribute]
pub fn idempotent(
    arguments: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    attribute(arguments.into(), &item.into()).into()
}

/// The attribute on token streams that a test can build.
///
/// Whatever is wrong, the item itself is still emitted, so that no second error follows from its
/// absence.
fn attribute(arguments: TokenStream, item: &TokenStream) -> TokenStream {
    let mut faults = Faults::default();
    let options = Options::parse(arguments, &mut faults);
    let config = Config::validate(options, &mut faults);
    let function = match syn::parse2::<Function>(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            faults.add(error);
            let errors = faults.into_result().unwrap_err().into_compile_error();
            return quote!(#errors #item);
        }
    };
    validate::handler(&function, &mut faults);
    match faults.into_result() {
        Ok(()) => expand::expand(&config, function),
        Err(errors) => {
            let errors = errors.into_compile_error();
            quote!(#errors #item)
        }
    }
}
