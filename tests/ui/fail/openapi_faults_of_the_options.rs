//! Errors in the options are reported once, however often the attribute is expanded.
use idempotent_axum::idempotent;

#[idempotent(ttl = 5)]
#[utoipa::path(post, path = "/invites")]
async fn invite(body: String) -> String {
    body
}

fn main() {}
