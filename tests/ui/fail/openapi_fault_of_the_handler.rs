//! An error in the handler is reported once, where it is.
use idempotent_axum::idempotent;

#[idempotent]
#[utoipa::path(post, path = "/invites")]
async fn invite(body: String, id: u64) -> String {
    format!("{body} {id}")
}

fn main() {}
