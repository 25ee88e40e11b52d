//! Who asks for what: the attribute's expressions, and the digest that names the operation.

use std::fmt::Display;

use axum::extract::{MatchedPath, Request};
use http::{Method, Uri};

use crate::{
    digest::{Fields, Fingerprint, StoreKey, version},
    fingerprint::{self, StableHasher},
    policy::Policy,
};

/// What the attribute's expressions say about one request.
///
/// The expansion fills it in, before the last parameter is extracted if no expression uses it, else
/// between the last extractor and the handler's body.
// No `Debug`: a key or a principal would end up in a log.
#[derive(Default)]
pub struct Evaluated {
    pub(crate) principal: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) fingerprint: Option<Fingerprint>,
}

impl Evaluated {
    /// Whose key it is: equal keys of different principals never meet.
    pub fn principal(&mut self, text: Option<String>) {
        self.principal = text;
    }

    /// The idempotency key, taken from the request instead of a header; whether it is a key to look
    /// up.
    pub fn key(&mut self, text: Option<String>) -> bool {
        self.key = text;
        self.key.as_ref().is_some_and(|key| !key.is_empty())
    }

    /// What must be equal for two requests with one key to be the same request.
    ///
    /// `hash` is [`Hash::hash`], named by the expansion: an error about it is one about `Hash`.
    ///
    /// [`Hash::hash`]: std::hash::Hash::hash
    pub fn fingerprint<T: ?Sized>(&mut self, value: &T, hash: fn(&T, &mut StableHasher)) {
        let mut hasher = StableHasher::new();
        hash(value, &mut hasher);
        self.fingerprint = Some(hasher.finish());
    }
}

/// What a `principal` or `key` expression gives: a [`Display`] value, or an [`Option`] of one.
///
/// Every such type has it, and nothing else can: for a type of your own, implement [`Display`].
/// `Kind` tells a value from an `Option`; the compiler infers it, for no `Option` is `Display`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be used as a principal or key",
    label = "neither `Display` nor an `Option` of a `Display` value",
    note = "write an expression for one value with a text, such as `user.id`, or implement `Display`"
)]
pub trait OptionalDisplay<Kind = ()> {
    /// The value's text, or `None`.
    fn text(&self) -> Option<String>;

    #[doc(hidden)]
    fn sealed(_: Seal);
}

/// Only this crate can name it, so only this crate can implement [`OptionalDisplay`]. A private
/// supertrait would be what the compiler names in an error.
#[derive(Debug)]
pub struct Seal;

#[diagnostic::do_not_recommend]
impl<T: Display + ?Sized> OptionalDisplay for T {
    fn text(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn sealed(_: Seal) {}
}

#[diagnostic::do_not_recommend]
impl<T: Display> OptionalDisplay<Option<()>> for Option<T> {
    fn text(&self) -> Option<String> {
        self.as_ref().map(ToString::to_string)
    }

    fn sealed(_: Seal) {}
}

#[diagnostic::do_not_recommend]
impl<T: Display> OptionalDisplay<Option<()>> for &Option<T> {
    fn text(&self) -> Option<String> {
        self.as_ref().map(ToString::to_string)
    }

    fn sealed(_: Seal) {}
}

/// The operation a request asks for: the first part of the store key.
pub(crate) enum Scope {
    /// The attribute's `scope`.
    Named(&'static str),
    /// The matched route template, nest prefix included.
    Route(Method, MatchedPath),
    /// The full path, where no template is known.
    Path(Method, Uri),
}

impl Scope {
    pub(crate) fn of<B>(policy: &Policy, request: &Request<B>) -> Self {
        let method = || request.method().clone();
        match (policy.scope, request.extensions().get::<MatchedPath>()) {
            (Some(scope), _) => Self::Named(scope),
            (None, Some(template)) => Self::Route(method(), template.clone()),
            (None, None) => Self::Path(method(), fingerprint::full_uri(request).clone()),
        }
    }

    /// The digest of scope, principal and key. No principal is a principal of its own.
    pub(crate) fn store_key(&self, principal: Option<&str>, key: &str) -> StoreKey {
        let mut fields = Fields::new(version::STORE_KEY);
        let mut operation =
            |parts: &[&str]| parts.iter().for_each(|part| fields.put(part.as_bytes()));
        match self {
            Self::Named(scope) => operation(&["scope", scope]),
            Self::Route(method, template) => {
                operation(&["route", method.as_str(), template.as_str()]);
            }
            Self::Path(method, uri) => operation(&["path", method.as_str(), uri.path()]),
        }
        fields.put(&[u8::from(principal.is_some())]);
        fields.put(principal.unwrap_or_default().as_bytes());
        fields.put(key.as_bytes());
        fields.hash().into()
    }
}
