//! Above `utoipa::path` and below it.
use idempotent_axum::idempotent;

#[idempotent]
#[utoipa::path(post, path = "/invites")]
#[idempotent(ttl = "1d")]
async fn invite(body: String) -> String {
    body
}

fn main() {}
