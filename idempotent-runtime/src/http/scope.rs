//! [`Scope`]: which operation a request asks for.

use std::sync::Arc;

use axum::extract::Request;
use http::Method;

use super::{policy::Policy, target::Target};
use crate::engine::{Fields, Text, key, version};

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
            Self::Named(scope) => Some(scope.into()),
            Self::Route(method, template) => {
                let name = Text::from_display(&format_args!("{} {template}", known(method)));
                Some(name.as_str().into())
            }
            Self::Path(..) => None,
        }
    }

    /// The digest's fields, as far as the scope tells them.
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

/// A method as people may see it: clients make up others, and there is no end to them.
fn known(method: &Method) -> &str {
    match method.as_str() {
        known @ ("CONNECT" | "DELETE" | "GET" | "HEAD" | "OPTIONS" | "PATCH" | "POST" | "PUT"
        | "TRACE") => known,
        _ => "OTHER",
    }
}
