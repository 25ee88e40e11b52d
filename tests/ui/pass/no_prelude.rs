//! A crate without the prelude.
#![no_implicit_prelude]
#![deny(
    warnings,
    clippy::pedantic,
    clippy::nursery,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    single_use_lifetimes
)]
use ::axum::{Router, extract::Path, routing::post};
use ::std::string::String;

#[::idempotent_axum::idempotent(ttl = "1h", scope = "scope", principal = name, key = name, fingerprint = name)]
async fn handler(Path(name): Path<String>) -> String {
    name
}

fn main() {
    let _: Router = Router::new().route("/{name}", post(handler));
}
