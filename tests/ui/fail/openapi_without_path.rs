//! `utoipa::path` without a path.
use idempotent_axum::idempotent;

#[idempotent]
#[utoipa::path(post)]
async fn invite(body: String) -> String {
    body
}

fn main() {}
