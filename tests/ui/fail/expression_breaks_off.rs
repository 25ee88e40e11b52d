//! An expression with a hole.
use idempotent_axum::idempotent;

#[idempotent(principal = user. + 1, key = (user., 1), fingerprint = f(user.))]
async fn handler(user: axum::http::Uri) {
    drop(user);
}

fn main() {
    let _ = axum::routing::post::<_, _, ()>(handler);
}
