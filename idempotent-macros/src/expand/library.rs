//! The paths to what the expansion calls.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens as _, quote_spanned};
use syn::Path;

/// The library, at the path that the attribute's `crate` option gives.
pub(super) struct Library<'a>(pub(super) Option<&'a Path>);

impl Library<'_> {
    /// The path to the items that the expansion calls.
    pub(super) fn here(&self) -> TokenStream {
        self.at(Span::mixed_site())
    }

    /// The same path, with errors about the item it names shown at `at`.
    pub(super) fn at(&self, at: Span) -> TokenStream {
        let library = self.library(at);
        // Spanned as generated code: otherwise `unused_qualifications` would ask the user to
        // shorten the path.
        let private = Ident::new("__private", Span::mixed_site().located_at(at));
        quote_spanned!(at=> #library::#private)
    }

    /// The path of the attribute itself.
    pub(super) fn attribute(&self) -> TokenStream {
        let at = Span::mixed_site();
        let library = self.library(at);
        quote_spanned!(at=> #library::idempotent)
    }

    fn library(&self, at: Span) -> TokenStream {
        match self.0 {
            None => quote_spanned!(at=> ::idempotent_axum),
            // The names keep their hygiene, so that `$crate` works.
            Some(path) => path
                .to_token_stream()
                .into_iter()
                .map(|mut token| {
                    token.set_span(token.span().located_at(at));
                    token
                })
                .collect(),
        }
    }
}
