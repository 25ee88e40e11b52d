//! [`Scope`]: the operation that a request asks for.

use std::sync::Arc;

use axum::extract::Request;
use http::Method;

use super::{names, policy::Policy, target::Target};
use crate::engine::{Fields, key, version};

/// The operation that a request asks for: the first part of its store key.
#[derive(Clone, Copy)]
pub(crate) enum Scope<'r> {
    /// The attribute's `scope`.
    Named(&'r str),
    /// Method and matched route template, nest prefix included. Shares its namespace with `Named`:
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

    /// The operation's name, for display. A path has none.
    pub(crate) fn name(self) -> Option<Arc<str>> {
        match self {
            Self::Named(scope) => Some(names::of_scope(scope)),
            Self::Route(method, template) => Some(names::of_route(method, template)),
            Self::Path(..) => None,
        }
    }

    /// The fields of the digest that the scope contributes.
    pub(crate) fn fields(self) -> Fields {
        match self {
            Self::Named(scope) => key::operation(scope),
            Self::Route(method, template) => key::route(method.as_str(), template),
            Self::Path(method, path) => {
                let mut fields = Fields::new(version::STORE_KEY);
                fields.put(b"p");
                fields.put(method.as_str().as_bytes());
                fields.put(path.as_bytes());
                fields
            }
        }
    }
}
