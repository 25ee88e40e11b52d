//! Names that the expansion might use belong to the user.
#![deny(
    warnings,
    clippy::pedantic,
    clippy::nursery,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    single_use_lifetimes
)]
use ::idempotent_axum as library;
use axum::{
    Json, Router,
    extract::{FromRequestParts, Path},
    http::{HeaderMap, Uri, request::Parts},
    routing::post,
};

mod std {}
mod core {}
mod idempotent_axum {}
type Result = ();
#[derive(Debug)]
struct Response;
struct Option;
#[allow(non_camel_case_types, dead_code)]
struct Some;

struct Request(Uri);

impl<S: Sync> FromRequestParts<S> for Request {
    type Rejection = ::std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        _: &S,
    ) -> ::core::result::Result<Self, Self::Rejection> {
        Ok(Self(parts.uri.clone()))
    }
}

#[library::idempotent(principal = request.0, fingerprint = (key, &response))]
async fn handler(
    headers: HeaderMap,
    request: Request,
    Path((key, response)): Path<(u64, String)>,
    call: Uri,
    Json((facts, state)): Json<(u64, u64)>,
) -> Result {
    let (_, policy, run) = (Option, Response, 1);
    drop((headers, request, key, response, call, policy));
    println!("{facts}{state}{run}");
}

#[library::idempotent]
async fn underscored(__last: Uri, __facts: HeaderMap, __policy: String) -> String {
    const __POLICY: u64 = 1;
    format!("{__last}{}{__policy}{__POLICY}", __facts.len())
}

mod imports {
    use std::hash::{DefaultHasher, Hash};

    use super::library::{self, Idempotent, OptionalDisplay};
    use axum::response::{IntoResponse, Response};

    #[library::idempotent(crate = library, principal = name, fingerprint = name)]
    pub(super) async fn handler(name: String) -> ::core::result::Result<impl IntoResponse, ()> {
        name.hash(&mut DefaultHasher::new());
        assert!(name.text().is_some());
        other(Idempotent::from(Some(name))).await;
        Ok(())
    }

    #[library::idempotent(crate = library)]
    async fn other(_: ::core::option::Option<String>) -> Response {
        ().into_response()
    }
}

fn main() {
    let _: Router =
        Router::new().route("/", post(handler).put(underscored).patch(imports::handler));
}
