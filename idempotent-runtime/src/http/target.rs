//! [`Target`]: the resource that a request is for, as its client named it.

use axum::extract::{MatchedPath, OriginalUri, Request};
use http::Uri;

/// The resource that a request is for.
#[derive(Clone, Copy)]
pub(crate) struct Target<'r> {
    /// The matched route template, nest prefix included.
    pub(crate) template: Option<&'r str>,
    /// As the client sent it: nested routers see only the end of it.
    pub(crate) uri: &'r Uri,
}

impl<'r> Target<'r> {
    pub(crate) fn of<B>(request: &'r Request<B>) -> Self {
        let template = || request.extensions().get().map(MatchedPath::as_str);
        let uri = request.uri();
        match request.extensions().get() {
            Some(OriginalUri(original)) if !is_end_of(uri.path(), original.path()) => {
                Self::behind(template(), original, uri)
            }
            Some(OriginalUri(original)) => Self { template: template(), uri: original },
            None => Self { template: template(), uri },
        }
    }

    /// The target of a request that does not ask for a part of `original`: a handler has made it with
    /// the extensions of its own request. They say that this is for `original`, and its template
    /// stands behind the other's.
    #[cold]
    fn behind(template: Option<&'r str>, original: &'r Uri, uri: &'r Uri) -> Self {
        let own = template.and_then(|both| {
            let mut cuts = both.match_indices('/').map(|(at, _)| both.split_at(at));
            cuts.find(|(other, own)| matches(other, original.path()) && matches(own, uri.path()))
        });
        match own {
            Some((_, own)) => Self { template: Some(own), uri },
            // A layer has changed the path.
            None => Self { template, uri: original },
        }
    }
}

/// Whether `end` is what a nested router would see of `path`. A trailing slash makes no difference.
pub(super) fn is_end_of(end: &str, path: &str) -> bool {
    path.ends_with(end) || path.trim_end_matches('/').ends_with(end.trim_end_matches('/'))
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

    /// Template and URI of a request for `uri` that has the extensions of one for `original`;
    /// `template` is what axum makes of both.
    fn behind(template: &str, original: &str, uri: &str) -> (String, String) {
        let (original, uri) = (original.parse().unwrap(), uri.parse().unwrap());
        let target = Target::behind(Some(template), &original, &uri);
        (target.template.unwrap().to_owned(), target.uri.to_string())
    }

    #[test]
    fn a_request_with_the_extensions_of_another_one_has_its_own_target() {
        for (template, original, uri, own) in [
            ("/batch/pay", "/batch", "/pay", "/pay"),
            ("/batch/pay/{id}", "/batch?all", "/pay/7?now", "/pay/{id}"),
            ("/{tenant}/batch/pay", "/acme/batch", "/pay", "/pay"),
            ("/{*rest}/pay", "/a/b/c", "/pay", "/pay"),
            ("//pay", "/", "/pay", "/pay"),
            ("/batch//pay", "/batch/", "/pay", "/pay"),
            ("/batch/batch/pay", "/batch", "/batch/pay", "/batch/pay"),
        ] {
            let target = behind(template, original, uri);
            assert_eq!(target, (own.to_owned(), uri.to_owned()), "{template}");
        }
    }

    #[test]
    fn a_request_whose_path_a_layer_has_changed_keeps_the_one_its_client_sent() {
        for template in ["/v1/pay", "/pay/v1", "/{version}/pay", "/{*rest}"] {
            let target = behind(template, "/v1/pay", "/pay/v1");
            assert_eq!(target, (template.to_owned(), "/v1/pay".to_owned()));
        }
        let (original, uri) = ("/v1/pay".parse().unwrap(), "/pay/v1".parse().unwrap());
        assert_eq!(Target::behind(None, &original, &uri).uri, &original);
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
