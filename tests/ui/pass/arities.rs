//! Zero to sixteen parameters, the last of which reads the body.
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
    Router,
    http::Uri,
    routing::{MethodRouter, post},
};
use idempotent_axum::idempotent;

macro_rules! handlers {
    ($routers:ident, $($before:ident)*) => {
        $routers.push({
            #[idempotent(principal = body, fingerprint = [&body, $(&$before.to_string()),*])]
            #[allow(clippy::too_many_arguments)]
            async fn handler($($before: Uri,)* body: String) -> String {
                [body, $($before.to_string()),*].concat()
            }
            post(handler)
        });
        handlers!(@fewer $routers, $($before)*);
    };
    (@fewer $routers:ident, $first:ident $($rest:ident)*) => {
        handlers!($routers, $($rest)*);
    };
    (@fewer $routers:ident,) => {
        $routers.push({
            #[idempotent]
            async fn handler() {}
            post(handler)
        });
    };
}

fn main() {
    let mut routers: Vec<MethodRouter> = Vec::new();
    handlers!(routers, one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen);
    assert_eq!(routers.len(), 17);
    let _ = routers
        .into_iter()
        .enumerate()
        .fold(Router::<()>::new(), |app, (at, router)| app.route(&format!("/{at}"), router));
}
