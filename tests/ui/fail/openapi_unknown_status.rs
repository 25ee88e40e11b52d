//! A status that is not one.
use idempotent_axum::idempotent;

#[idempotent]
#[utoipa::path(post, path = "/invites", responses((status = StatusCode::CREATE)))]
async fn invite(body: String) -> String {
    body
}

fn main() {}
