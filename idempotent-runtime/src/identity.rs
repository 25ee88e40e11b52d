//! Who asks for what: the attribute's expressions, and the digest that names the operation.

use std::{fmt::Display, hash::Hash};

use axum::extract::{MatchedPath, Request};

use crate::{
    digest::{Fields, Fingerprint, StoreKey, version},
    fingerprint::{self, StableHasher},
    policy::Policy,
};

/// What the attribute's expressions say about one request.
///
/// The expansion fills it in, between the last extractor and the handler's body.
#[derive(Debug, Default)]
pub struct Facts {
    pub(crate) principal: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) fingerprint: Option<Fingerprint>,
}

impl Facts {
    /// Whose key it is: equal keys of different principals never meet.
    pub fn principal<T: Text<Kind> + ?Sized, Kind>(&mut self, value: &T) {
        self.principal = value.text();
    }

    /// The idempotency key, taken from the request instead of a header; whether it is a key to look
    /// up.
    pub fn key<T: Text<Kind> + ?Sized, Kind>(&mut self, value: &T) -> bool {
        self.key = value.text();
        self.key.as_ref().is_some_and(|key| !key.is_empty())
    }

    /// What must be equal for two requests with one key to be the same request.
    pub fn fingerprint<T: Fingerprinted + ?Sized>(&mut self, value: &T) {
        self.fingerprint = Some(value.fingerprint());
    }
}

/// A value of a `principal` or `key` expression: [`Display`], or an [`Option`] of it.
///
/// `Kind` tells the two apart; the compiler infers it, for no `Option` is `Display`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no text to be a principal or a key",
    label = "neither `Display` nor an `Option` of a `Display` value",
    note = "write an expression for one value with a text, such as `user.id`, or implement `Display`"
)]
pub trait Text<Kind> {
    /// The value's text, or `None`.
    fn text(&self) -> Option<String>;
}

/// The [`Text`] of a [`Display`] value.
#[derive(Debug)]
pub struct Plain;

/// The [`Text`] of an [`Option`], or of a reference to one.
#[derive(Debug)]
pub struct Optional;

#[diagnostic::do_not_recommend]
impl<T: Display + ?Sized> Text<Plain> for T {
    fn text(&self) -> Option<String> {
        Some(self.to_string())
    }
}

#[diagnostic::do_not_recommend]
impl<T: Display> Text<Optional> for Option<T> {
    fn text(&self) -> Option<String> {
        self.as_ref().map(ToString::to_string)
    }
}

#[diagnostic::do_not_recommend]
impl<T: Display> Text<Optional> for &Option<T> {
    fn text(&self) -> Option<String> {
        self.as_ref().map(ToString::to_string)
    }
}

/// A value of a `fingerprint` expression: anything that is [`Hash`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a fingerprint: it is not `Hash`",
    label = "not `Hash`",
    note = "write an expression for what tells two requests apart, such as `(body.account, body.cents)`, or derive `Hash`"
)]
pub trait Fingerprinted {
    /// The digest of the value's hash.
    fn fingerprint(&self) -> Fingerprint;
}

#[diagnostic::do_not_recommend]
impl<T: Hash + ?Sized> Fingerprinted for T {
    fn fingerprint(&self) -> Fingerprint {
        let mut hasher = StableHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// The operation a request asks for, as far as its head tells: the first part of the store key.
pub(crate) struct Scope(Fields);

impl Scope {
    /// The attribute's `scope`, else method and route template, else method and full path.
    pub(crate) fn of<B>(policy: &Policy, request: &Request<B>) -> Self {
        let mut fields = Fields::new(version::STORE_KEY);
        if let Some(scope) = policy.scope {
            fields.put(b"scope");
            fields.put(scope.as_bytes());
        } else {
            let (kind, path) = match request.extensions().get::<MatchedPath>() {
                Some(template) => ("route", template.as_str()),
                None => ("path", fingerprint::full_uri(request).path()),
            };
            for field in [kind, request.method().as_str(), path] {
                fields.put(field.as_bytes());
            }
        }
        Self(fields)
    }

    /// The digest of scope, principal and key. No principal is a principal of its own.
    pub(crate) fn store_key(self, principal: Option<&str>, key: &str) -> StoreKey {
        let Self(mut fields) = self;
        fields.put(&[u8::from(principal.is_some())]);
        fields.put(principal.unwrap_or_default().as_bytes());
        fields.hash_with(key.as_bytes()).into()
    }
}
