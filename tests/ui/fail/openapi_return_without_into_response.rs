//! A return type that is not a response.
use axum::{Router, routing::post};
use idempotent_axum::idempotent;

struct Invited;

#[idempotent]
#[utoipa::path(post, path = "/invites")]
async fn invite(_body: String) -> Invited {
    Invited
}

fn main() {
    let _: Router = Router::new().route("/", post(invite));
}
