//! Handlers and options that a user's macro generates.
#![deny(
    warnings,
    clippy::pedantic,
    clippy::nursery,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    single_use_lifetimes
)]
use axum::{Router, extract::Path, routing::post};

macro_rules! handler {
    ($name:ident, $ttl:literal, $header:literal, $principal:expr, $fingerprint:expr, $path:path, $ty:ty, $pat:pat, $body:block) => {
        #[idempotent_axum::idempotent(ttl = $ttl, header = [$header], principal = $principal, fingerprint = $fingerprint, crate = $path)]
        async fn $name($pat: $ty) -> $ty $body
    };
}

macro_rules! of_crate {
    ($name:ident) => {
        #[idempotent_axum::idempotent(crate = $crate::deps::library)]
        async fn $name() {}
    };
}

mod deps {
    pub(super) use idempotent_axum as library;
}

handler!(first, "1h", "idempotency-key", "everyone", "none", ::idempotent_axum, String, name, {
    name
});
of_crate!(second);

mod with_parameters {
    use super::{Path, deps};

    macro_rules! principal {
        ($id:ident, $principal:expr) => {
            #[deps::library::idempotent(principal = $principal, key = $id)]
            pub(super) async fn third(Path($id): Path<u64>) -> String {
                $id.to_string()
            }
        };
    }
    principal!(id, id + 1);
}

fn main() {
    let _: Router = Router::new().route("/", post(first).put(second).patch(with_parameters::third));
}
