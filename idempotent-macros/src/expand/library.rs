//! The way to what the expansion calls.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens as _, quote_spanned};
use syn::Path;

/// The library, where the attribute's `crate` says that it is.
pub(super) struct Library<'a>(pub(super) Option<&'a Path>);

impl Library<'_> {
    /// The path of what the expansion calls.
    pub(super) fn here(&self) -> TokenStream {
        self.at(Span::mixed_site())
    }

    /// The same path: an error about what it names is shown at `at`.
    pub(super) fn at(&self, at: Span) -> TokenStream {
        let library = self.library(at);
        // Marked as generated, or `unused_qualifications` would have the user shorten the path.
        let private = Ident::new("__private", Span::mixed_site().located_at(at));
        quote_spanned!(at=> #library::#private)
    }

    /// The path of the attribute.
    pub(super) fn attribute(&self) -> TokenStream {
        let at = Span::mixed_site();
        let library = self.library(at);
        quote_spanned!(at=> #library::idempotent)
    }

    fn library(&self, at: Span) -> TokenStream {
        match self.0 {
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
        }
    }
}
