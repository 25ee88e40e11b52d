//! A parameter before the last one, whose value cannot be sent to another thread.
use std::{convert::Infallible, rc::Rc};

use axum::{Router, extract::FromRequestParts, http::request::Parts, routing::post};
use idempotent_axum::idempotent;

struct Cache(Rc<u64>);

impl<S: Sync> FromRequestParts<S> for Cache {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(Rc::new(1)))
    }
}

#[idempotent]
async fn handler(cache: Cache, body: String) {
    drop((cache.0, body));
}

fn main() {
    let _: Router = Router::new().route("/", post(handler));
}
