//! The attribute's options, one per row: name, syntax and meaning.
//!
//! A faulty option is reported and skipped, so that the ones after it are still checked and the
//! handler still expands. `grammar` reads the tokens after a name, `meaning` interprets them; rules
//! between two options are here.

mod grammar;
mod meaning;

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use syn::{
    Expr, Ident, Path,
    ext::IdentExt as _,
    parse::{ParseStream, Parser as _},
};

pub(crate) use self::meaning::{Fingerprint, Format, Replay};
use crate::faults::Faults;

/// Defines [`Options`] from a table.
macro_rules! options {
    ($($name:literal, $field:ident: $meant:ty = $grammar:ident, $meaning:ident, $expected:literal;)*) => {
        /// What a handler's attribute asks for.
        #[derive(Default)]
        pub(crate) struct Options {
            $(pub(crate) $field: Slot<$meant>,)*
        }

        /// The names of all options, in the order of the documentation.
        const NAMES: &[&str] = &[$($name),*];

        impl Options {
            /// Reads the value of the option `name` from the start of `input`.
            fn read(
                &mut self,
                name: &Ident,
                input: ParseStream<'_>,
                faults: &mut Faults,
            ) -> syn::Result<()> {
                match name.to_string().as_str() {
                    $($name => {
                        let repeated = self.$field.fill_name(name);
                        let written = grammar::$grammar(name, input, $expected)?;
                        repeated?;
                        self.$field.value = faults.ok(meaning::$meaning(&written));
                        Ok(())
                    })*
                    unknown => Err(syn::Error::new(name.span(), unknown_option(unknown))),
                }
            }
        }
    };
}

options! {
    "ttl", ttl: Duration = string, ttl, "a duration in quotes, such as `\"1h\"`";
    "header", header: Vec<String> = strings, headers,
        "a header name in quotes, such as `\"idempotency-key\"`, or an array of names";
    "format", format: Format = string, format, "`\"uuid\"`, `\"uuid-v4\"` or `\"any\"`";
    "required", required: () = flag, as_written, "write `required` alone, or leave it out";
    "replay", replay: Replay = strings, replay,
        "`\"all\"`, a status in quotes such as `\"2xx\"` or `\"409\"`, or an array of them";
    "wait", wait: Duration = string, wait, "a duration in quotes, such as `\"10s\"`";
    "principal", principal: Expr = expression, as_written,
        "an expression over the handler's parameters, such as `user.id`";
    "key", key: Expr = expression, as_written,
        "an expression over the handler's parameters, such as `event.id`";
    "fingerprint", fingerprint: Fingerprint = expression, fingerprint,
        "`\"request\"`, `\"json\"`, `\"path\"`, `\"none\"` or an expression over the handler's parameters";
    "scope", scope: String = string, scope,
        "the operation's name in quotes, such as `\"create-payment\"`";
    "crate", krate: Path = path, as_written,
        "the path of the library without quotes, such as `my_deps::idempotent_axum`";
}

/// One option.
///
/// The name is kept as written: the expansion uses it to name the library's item, so that an editor
/// shows that item's documentation.
pub(crate) struct Slot<T> {
    /// `None` if the option is not given.
    name: Option<Ident>,
    /// Also `None` if the option is faulty.
    value: Option<T>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { name: None, value: None }
    }
}

impl<T> Slot<T> {
    /// The option's name and its meaning, if it is given and valid.
    pub(crate) fn get(&self) -> Option<(&Ident, &T)> {
        self.name.as_ref().zip(self.value.as_ref())
    }

    pub(crate) fn value(&self) -> Option<&T> {
        self.value.as_ref()
    }

    pub(crate) fn is_given(&self) -> bool {
        self.name.is_some()
    }

    fn fill_name(&mut self, name: &Ident) -> syn::Result<()> {
        if self.is_given() {
            return Err(syn::Error::new(name.span(), format!("`{name}` is given twice: keep one")));
        }
        self.name = Some(name.clone());
        Ok(())
    }
}

impl Options {
    /// Parses the attribute's arguments.
    pub(crate) fn parse(arguments: TokenStream, faults: &mut Faults) -> Self {
        let mut options = Self::default();
        let parser = |input: ParseStream<'_>| {
            while !input.is_empty() {
                if let Err(fault) = options.read_one(input, faults) {
                    faults.add(fault);
                    grammar::skip_to_comma(input);
                }
                if let Err(fault) = grammar::comma(input, "options") {
                    faults.add(fault);
                    let next = input.fork().call(Ident::parse_any);
                    if !next.is_ok_and(|next| NAMES.iter().any(|name| next == name)) {
                        grammar::skip_to_comma(input);
                    }
                }
            }
            Ok(())
        };
        let parsed = parser.parse2(arguments);
        faults.ok(parsed);
        options.check_together(faults);
        options
    }

    fn read_one(&mut self, input: ParseStream<'_>, faults: &mut Faults) -> syn::Result<()> {
        if !input.peek(Ident::peek_any) {
            return Err(input.error(format!("expected an option: {}", all_names())));
        }
        let name = input.call(Ident::parse_any)?;
        self.read(&name, input, faults)
    }

    /// Checks the rules between two options.
    fn check_together(&self, faults: &mut Faults) {
        if let Some((key, _)) = self.key.get() {
            let excluded = [&self.header.name, &self.format.name, &self.required.name];
            for name in excluded.into_iter().flatten() {
                let message = format!(
                    "`{name}` applies to a key in a header, but `key` takes the key from elsewhere: remove `{name}` or `key`"
                );
                faults.add(syn::Error::new(name.span(), message));
            }
            self.check_owner(key.span(), "`key = …`", faults);
        } else if let Some(Format::Any(at)) = self.format.value() {
            self.check_owner(*at, "`format = \"any\"`", faults);
        }
    }

    /// Guessable keys must name their owner, or one caller would be replayed another's response.
    fn check_owner(&self, at: Span, with: &str, faults: &mut Faults) {
        if !self.principal.is_given() {
            let message = format!(
                "{with} allows keys that others can guess: add their owner with `principal = user.id`, or `principal = \"everyone\"` if all callers share one key space"
            );
            faults.add(syn::Error::new(at, message));
        }
    }

    /// Whether `crate` is given but faulty, so that generated code would look in the wrong place.
    pub(crate) fn library_is_unknown(&self) -> bool {
        self.krate.is_given() && self.krate.value().is_none()
    }

    /// The expressions, all of which see the handler's parameters.
    pub(crate) fn expressions(&self) -> impl Iterator<Item = &Expr> {
        let fingerprint = self.fingerprint.value().and_then(Fingerprint::expression);
        self.principal.value().into_iter().chain(self.key.value()).chain(fingerprint)
    }
}

fn unknown_option(name: &str) -> String {
    let distance = |known: &&&str| strsim::damerau_levenshtein(name, known);
    let nearest = NAMES.iter().min_by_key(distance);
    match nearest.filter(|known| distance(known) <= name.len().max(known.len()) / 3) {
        Some(nearest) => format!("unknown option `{name}`: did you mean `{nearest}`?"),
        None => format!("unknown option `{name}`: expected one of {}", all_names()),
    }
}

fn all_names() -> String {
    let names: Vec<String> = NAMES.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
