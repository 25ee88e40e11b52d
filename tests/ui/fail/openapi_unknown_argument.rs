//! An argument that `utoipa::path` does not know.
use idempotent_axum::idempotent;

#[idempotent]
#[utoipa::path(post, route = "/invites")]
async fn invite(body: String) -> String {
    body
}

fn main() {}
