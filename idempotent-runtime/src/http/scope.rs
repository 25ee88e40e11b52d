//! [`Scope`]: which operation a request asks for, and the digest that names one key of it.

use std::sync::Arc;

use axum::extract::Request;
use http::Method;

use super::{key::Key, names, policy::Policy, target::Target};
use crate::{
    engine::{Digesting, Fields, version},
    store::StoreKey,
};

/// The operation that a request asks for: the first part of its store key.
#[derive(Clone, Copy)]
pub(crate) enum Scope<'r> {
    /// The attribute's `scope`.
    Named(&'r str),
    /// Method and matched route template, nest prefix included. One kind of name with the above:
    /// `scope = "POST /orders"` is the route's.
    Route(&'r Method, &'r str),
    /// Method and full path, if no template is known.
    Path(&'r Method, &'r str),
}

impl<'r> Scope<'r> {
    pub(crate) fn from_request<B>(policy: &Policy, request: &'r Request<B>) -> Self {
        if let Some(scope) = policy.scope {
            return Self::Named(scope);
        }
        match Target::template(request) {
            Some(template) => Self::Route(request.method(), template),
            None => Self::Path(request.method(), Target::uri(request).path()),
        }
    }

    /// The operation's name, for people. Never a path: `None`.
    pub(crate) fn name(self) -> Option<Arc<str>> {
        match self {
            Self::Named(scope) => Some(names::of_scope(scope)),
            Self::Route(method, template) => Some(names::of_route(method, template)),
            Self::Path(..) => None,
        }
    }

    /// The digest's fields, as far as the scope tells them.
    pub(crate) fn fields(self) -> Fields {
        let mut fields = Fields::new(version::STORE_KEY);
        match self {
            Self::Named(scope) => fields.put_joined(&[b"n", scope.as_bytes()]),
            Self::Route(method, template) => {
                let method = method.as_str().as_bytes();
                fields.put_joined(&[b"n", method, b" ", template.as_bytes()]);
            }
            Self::Path(method, path) => {
                fields.put(b"p");
                fields.put(method.as_str().as_bytes());
                fields.put(path.as_bytes());
            }
        }
        fields
    }
}

/// The digest of scope, principal and key. No principal is a principal of its own.
pub(crate) fn store_key(scope: &mut Fields, principal: Option<&str>, key: &Key) -> StoreKey {
    match principal {
        Some(principal) => scope.put_joined(&[b"p", principal.as_bytes()]),
        None => scope.put(b""),
    }
    key.put_into(scope);
    StoreKey::from_bytes(scope.digest(Digesting::Stable))
}
