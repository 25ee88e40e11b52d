//! Every kind of parameter: none, sixteen, nested patterns, attributes, documentation.
#![deny(
    warnings,
    clippy::pedantic,
    clippy::nursery,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    single_use_lifetimes
)]
use axum::{
    Form, Json, Router,
    body::Bytes,
    extract::{FromRequestParts, Multipart, Path, Query, Request},
    http::{HeaderMap, Method, Uri, request::Parts},
    routing::{MethodRouter, get, post},
};
use idempotent_axum::{IdempotencyKey, idempotent};

#[idempotent]
async fn none() {}

#[idempotent(required)]
async fn one_line(body: String) -> String {
    body
}

#[idempotent]
#[allow(clippy::too_many_arguments)]
async fn sixteen(
    _: Method,
    _: Uri,
    _: HeaderMap,
    _: Method,
    _: Uri,
    _: HeaderMap,
    _: Method,
    _: Uri,
    _: HeaderMap,
    _: Method,
    _: Uri,
    _: HeaderMap,
    _: Method,
    _: Uri,
    _: HeaderMap,
    _: Bytes,
) {
}

#[idempotent(principal = page, fingerprint = (page, &name))]
async fn nested(
    Path((mut page, [first, ..])): Path<(u64, [u64; 2])>,
    Query(Names { name, .. }): Query<Names>,
    mut headers: HeaderMap,
    Json((mut a, b)): Json<(u64, u64)>,
) -> String {
    page += 1;
    a += first;
    headers.clear();
    format!("{name}{page}{a}{b}{}", headers.len())
}

#[derive(serde::Deserialize)]
struct Names {
    name: String,
    #[allow(dead_code)]
    other: String,
}

#[idempotent]
async fn attributes(
    /// What the client asks for.
    #[cfg(not(any()))]
    uri: Uri,
    #[cfg(any())] missing: Missing,
    #[allow(unused_variables)] method: Method,
    /// What it sends.
    #[cfg(not(any()))]
    #[allow(unused_mut)]
    mut body: String,
) -> String {
    //! Inner documentation.
    #![allow(clippy::let_and_return)]
    let answer = format!("{uri}{body}");
    answer
}

#[idempotent]
async fn last_is_cut(#[cfg(not(any()))] body: String, #[cfg(any())] missing: Missing) -> String {
    body
}

#[idempotent]
async fn all_are_cut(#[cfg(any())] missing: Missing) {}

#[idempotent]
async fn optional(
    key: IdempotencyKey,
    query: Option<Path<u64>>,
    body: Result<Json<u64>, axum::extract::rejection::JsonRejection>,
) -> String {
    format!("{:?}{query:?}{body:?}", key.get())
}

#[idempotent]
async fn tuple(_parts: (Method, Uri), (uri, body): (Uri, String)) -> String {
    format!("{uri}{body}")
}

#[idempotent]
async fn request(request: Request) -> String {
    request.uri().to_string()
}

#[idempotent]
async fn multipart(mut parts: Multipart) -> String {
    format!("{:?}", parts.next_field().await.is_ok())
}

struct Nothing;

impl<S: Sync> FromRequestParts<S> for Nothing {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self)
    }
}

#[idempotent]
async fn unit(Nothing: Nothing) {}

#[idempotent]
async fn form(Form(_fields): Form<Vec<(String, String)>>) {}

fn main() {
    let sixteen: MethodRouter = post(sixteen);
    let _: Router = Router::new()
        .route("/a", get(none).put(one_line).patch(nested).merge(sixteen))
        .route("/b", post(attributes).patch(last_is_cut).delete(all_are_cut).get(optional))
        .route("/c", post(tuple).put(request).patch(multipart).delete(form))
        .route("/d", post(unit));
}
