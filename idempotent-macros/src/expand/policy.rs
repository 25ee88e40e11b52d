//! The options that are known when the handler is compiled.

use std::time::Duration;

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;

use super::{expressions::Stage, library::Library};
use crate::options::{Fingerprint, Format, Options, Replay};

/// The `static` that holds the options; an option that is not given keeps its default.
///
/// Its fields are named with the options' own tokens, so that an editor shows a field's
/// documentation at the option.
pub(super) fn policy(library: &Library<'_>, options: &Options, stage: Stage) -> TokenStream {
    let private = library.here();
    let duration = |duration: &Duration| {
        let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
        quote!(::core::time::Duration::new(#seconds, #nanos))
    };
    let mut fields: Vec<TokenStream> = Vec::new();
    let mut field = |name: &Ident, value: TokenStream| fields.push(quote!(#name: #value));
    if let Some((name, value)) = options.ttl.get() {
        field(name, duration(value));
    }
    if let Some((name, value)) = options.header.get() {
        let count = value.len();
        // A separate static: one static cannot hold a reference to a `HeaderName` inside itself.
        let names = quote! {{
            static NAMES: [#private::HeaderName; #count] =
                [#(#private::HeaderName::from_static(#value)),*];
            &NAMES
        }};
        field(name, names);
    }
    if let Some((name, value)) = options.format.get() {
        let format = match value {
            Format::Uuid => quote!(Uuid),
            Format::UuidV4 => quote!(UuidV4),
            Format::Any(_) => quote!(Any),
        };
        field(name, quote!(#private::Format::#format));
    }
    if let Some((name, ())) = options.required.get() {
        field(name, quote!(true));
    }
    if let Some((name, value)) = options.replay.get() {
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
    if let Some((name, value)) = options.wait.get() {
        field(name, duration(value));
    }
    if let Some((name, _)) = options.key.get() {
        field(name, quote!(#private::KeySource::Expression));
    }
    if let Some((name, value)) = options.fingerprint.get() {
        let source = match value {
            Fingerprint::Request => quote!(Request),
            Fingerprint::Json => quote!(Json),
            Fingerprint::Path => quote!(Path),
            Fingerprint::None => quote!(None),
            Fingerprint::Expression(_) => quote!(Expression),
        };
        field(name, quote!(#private::FingerprintSource::#source));
    } else if options.key.get().is_some() {
        // A redelivered event has a different body and is still the same event.
        let name = Ident::new("fingerprint", Span::mixed_site());
        field(&name, quote!(#private::FingerprintSource::Path));
    }
    if let Some((name, value)) = options.scope.get() {
        field(name, quote!(::core::option::Option::Some(#value)));
    }
    if stage == Stage::AfterExtraction {
        fields.push(quote!(evaluated: #private::Stage::AfterExtraction));
    }
    if fields.is_empty() {
        quote!(#private::Policy::DEFAULT)
    } else {
        quote!(#private::Policy { #(#fields,)* ..#private::Policy::DEFAULT })
    }
}
