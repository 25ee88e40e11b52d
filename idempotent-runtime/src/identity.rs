//! Who asks for what: the attribute's expressions, and the digest that names the operation.

use std::{
    fmt::{Display, Write as _},
    hash::Hash,
    ops::Deref,
};

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
    /// Takes the value of the `principal` expression.
    pub fn principal(&mut self, value: Option<String>) {
        self.principal = value;
    }

    /// Takes the value of the `key` expression; whether it is a key to look up.
    pub fn key(&mut self, value: Option<String>) -> bool {
        let is_key = value.as_ref().is_some_and(|key| !key.is_empty());
        self.key = value;
        is_key
    }

    /// Takes the value of the `fingerprint` expression.
    pub fn fingerprint<T: Hash + ?Sized>(&mut self, value: &T) {
        let mut hasher = StableHasher::new();
        value.hash(&mut hasher);
        self.fingerprint = Some(hasher.finish());
    }
}

/// A value of a `principal` or `key` expression: [`Display`], or an [`Option`] of it.
///
/// `Value(&value).text()` reads an `Option` by its own method and everything else by
/// `Plain::text`, which it dereferences to.
#[derive(Debug)]
pub struct Value<T>(pub Plain<T>);

/// A [`Value`] that is no `Option`.
#[derive(Debug)]
pub struct Plain<T>(T);

/// A value that can name a principal or be a key.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a principal or a key",
    label = "this value is neither `Display` nor an `Option` of a `Display` value",
    note = "give a value that has one text, such as `user.id`"
)]
pub trait Text {
    /// Appends the value's text.
    fn write_to(&self, text: &mut String);
}

impl<T: Display + ?Sized> Text for T {
    fn write_to(&self, text: &mut String) {
        // Writing to a string fails only where the value's own `Display` does.
        write!(text, "{self}").expect("the value's `Display` does not fail");
    }
}

impl<T> Value<T> {
    /// Wraps a reference to the expression's value.
    pub const fn new(value: T) -> Self {
        Self(Plain(value))
    }
}

impl<T: Display> Value<&Option<T>> {
    /// The text of the value, or `None`.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        self.0.0.as_ref().map(ToString::to_string)
    }
}

impl<T: Display> Value<&&Option<T>> {
    /// The text of the value, or `None`.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        self.0.0.as_ref().map(ToString::to_string)
    }
}

impl<T: ?Sized> Plain<&T> {
    /// The text of the value.
    #[must_use]
    #[allow(clippy::unnecessary_wraps, reason = "the same type as that of an `Option`'s method")]
    pub fn text(&self) -> Option<String>
    where
        T: Text,
    {
        let mut text = String::new();
        self.0.write_to(&mut text);
        Some(text)
    }
}

impl<T> Deref for Value<T> {
    type Target = Plain<T>;

    fn deref(&self) -> &Plain<T> {
        &self.0
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
