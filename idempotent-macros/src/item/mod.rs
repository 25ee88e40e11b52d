//! The function below the attribute, or whatever else is there.
//!
//! The body stays raw tokens, so that half-typed code still expands and is parsed only once.
//! Whatever cannot be a handler is reported and, if possible, repaired (`handler`), so that no
//! further error follows.

mod handler;
mod parameter;
mod pattern;

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, FnArg, LitStr, PatType, Signature, Token, Visibility, braced,
    parse::{Parse, ParseStream},
    token::Brace,
};

/// A function.
#[derive(Clone)]
pub(crate) struct Function {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    pub(crate) brace: Brace,
    pub(crate) body: TokenStream,
    /// Parameters that were reported and removed from the signature; the body still sees them.
    pub(crate) refused: Vec<PatType>,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        if let Some(other) = other_item(input) {
            return Err(input.error(format!(
                "`#[idempotent]` goes above an `async fn` that handles requests, not above {other}"
            )));
        }
        let mut signature: Signature = input.parse()?;
        for parameter in &mut signature.inputs {
            if let FnArg::Typed(parameter) = parameter {
                // A parameter's doc comment is for readers of the source; the compiler rejects it.
                parameter.attrs.retain(|attribute| !attribute.path().is_ident("doc"));
            }
        }
        if input.peek(Token![;]) {
            return Err(input.error("a handler needs a body: write `{ … }` instead of `;`"));
        }
        let content;
        let brace = braced!(content in input);
        // Inner attributes apply to the body just as well from outside.
        attributes.extend(content.call(Attribute::parse_inner)?.into_iter().map(
            |mut attribute| {
                attribute.style = syn::AttrStyle::Outer;
                attribute
            },
        ));
        Ok(Self {
            attributes,
            visibility,
            signature,
            brace,
            body: content.parse()?,
            refused: Vec::new(),
        })
    }
}

/// What is below the attribute, if it is not a function.
fn other_item(input: ParseStream<'_>) -> Option<&'static str> {
    let after = input.fork();
    skip_modifiers(&after);
    let kinds = [
        (after.peek(Token![fn]), None),
        (after.peek(Token![struct]), Some("a `struct`")),
        (after.peek(Token![enum]), Some("an `enum`")),
        (after.peek(Token![impl]), Some("an `impl`: write it above each handler inside")),
        (after.peek(Token![trait]), Some("a `trait`")),
        (after.peek(Token![mod]), Some("a `mod`: write it above each handler inside")),
        (after.peek(Token![|]), Some("a closure: make it a function")),
        (after.peek(Token![let]), Some("a closure: make it a function")),
        (after.peek(Token![type]), Some("a `type`")),
        (after.peek(Token![use]), Some("a `use`")),
        (after.peek(Token![static]), Some("a `static`")),
        (input.peek(Token![const]), Some("a `const`")),
    ];
    let known = kinds.into_iter().find_map(|(found, name)| found.then_some(name));
    known.unwrap_or(Some("anything else"))
}

/// Whether `item` is a closure in a place where only an expression can be.
pub(crate) fn is_closure(item: TokenStream) -> bool {
    let parser = |input: ParseStream<'_>| {
        input.call(Attribute::parse_outer)?;
        skip_modifiers(input);
        let found = input.peek(Token![|]);
        input.parse::<TokenStream>().map(|_| found)
    };
    syn::parse::Parser::parse2(parser, item).unwrap_or(false)
}

fn skip_modifiers(input: ParseStream<'_>) {
    while input.peek(Token![const])
        || input.peek(Token![async])
        || input.peek(Token![unsafe])
        || input.peek(Token![extern])
        || input.peek(LitStr)
        || input.peek(Token![move])
    {
        if input.parse::<TokenTree>().is_err() {
            break;
        }
    }
}
