//! [`Target`]: the resource that a request is for, as the client named it.

use axum::extract::{MatchedPath, OriginalUri, Request};
use http::Uri;

/// The resource that a request is for.
pub(crate) struct Target;

impl Target {
    /// The URI as the client sent it: nested routers see only the end of it.
    pub(crate) fn uri<B>(request: &Request<B>) -> &Uri {
        match request.extensions().get() {
            Some(OriginalUri(original)) if is_end_of(request.uri().path(), original.path()) => {
                original
            }
            Some(OriginalUri(original)) => {
                own_template(request, original).map_or(original, |_| request.uri())
            }
            None => request.uri(),
        }
    }

    /// The matched route template, nest prefix included.
    pub(crate) fn template<B>(request: &Request<B>) -> Option<&str> {
        let template = request.extensions().get().map(MatchedPath::as_str)?;
        // Most requests have neither parameters nor a prefix, so nothing else has to be looked up.
        if template == request.uri().path() {
            return Some(template);
        }
        match request.extensions().get() {
            Some(OriginalUri(original)) if !is_end_of(request.uri().path(), original.path()) => {
                own_template(request, original).or(Some(template))
            }
            _ => Some(template),
        }
    }
}

/// The template of a request whose path is not the end of `original`, if a handler built it with
/// the extensions of its own request: they claim that it is for `original`, and its own template
/// comes after the other's. `None` if a layer has changed the path.
#[cold]
fn own_template<'r, B>(request: &'r Request<B>, original: &Uri) -> Option<&'r str> {
    let both = request.extensions().get().map(MatchedPath::as_str)?;
    behind(both, original.path(), request.uri().path())
}

fn behind<'t>(both: &'t str, original: &str, path: &str) -> Option<&'t str> {
    let mut cuts = both.match_indices('/').map(|(at, _)| both.split_at(at));
    let (_, own) = cuts.find(|(other, own)| matches(other, original) && matches(own, path))?;
    Some(own)
}

/// Whether `end` is what a nested router would see of `path`, ignoring a trailing slash.
#[inline]
pub(super) fn is_end_of(end: &str, path: &str) -> bool {
    // Usually one is a clone of the other.
    std::ptr::eq(end, path)
        || path.ends_with(end)
        || path.trim_end_matches('/').ends_with(end.trim_end_matches('/'))
}

/// Whether a route with this template matches `path`.
fn matches(template: &str, path: &str) -> bool {
    let (mut template, mut path) = (template.split('/'), path.split('/'));
    loop {
        match (template.next(), path.next()) {
            (None, None) => return true,
            (Some(rest), Some(_)) if rest.starts_with("{*") => return true,
            (Some(expected), Some(segment)) if expected == segment || expected.contains('{') => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_with_the_extensions_of_another_one_has_its_own_template() {
        for (both, original, path, own) in [
            ("/batch/pay", "/batch", "/pay", "/pay"),
            ("/batch/pay/{id}", "/batch", "/pay/7", "/pay/{id}"),
            ("/{tenant}/batch/pay", "/acme/batch", "/pay", "/pay"),
            ("/{*rest}/pay", "/a/b/c", "/pay", "/pay"),
            ("//pay", "/", "/pay", "/pay"),
            ("/batch//pay", "/batch/", "/pay", "/pay"),
            ("/batch/batch/pay", "/batch", "/batch/pay", "/batch/pay"),
        ] {
            assert_eq!(behind(both, original, path), Some(own), "{both}");
        }
    }

    #[test]
    fn a_request_whose_path_a_layer_has_changed_keeps_the_one_its_client_sent() {
        for template in ["/v1/pay", "/pay/v1", "/{version}/pay", "/{*rest}"] {
            assert_eq!(behind(template, "/v1/pay", "/pay/v1"), None, "{template}");
        }
    }

    #[test]
    fn a_nested_router_sees_the_end_of_a_path() {
        for (end, path) in
            [("/pay", "/v1/pay"), ("/pay", "/pay"), ("/", "/v1"), ("/pay/", "/v1/pay"), ("", "")]
        {
            assert!(is_end_of(end, path), "{end} of {path}");
        }
        for (end, path) in [("/pay", "/repay"), ("/pay", "/pay/7"), ("/v1/pay", "/pay")] {
            assert!(!is_end_of(end, path), "{end} of {path}");
        }
    }
}
