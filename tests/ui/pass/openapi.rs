//! Handlers that are documented: `#[utoipa::path]` above, registered by `routes!`.
#![deny(
    warnings,
    clippy::pedantic,
    clippy::nursery,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    single_use_lifetimes
)]
use axum::{Json, extract::Path};
use idempotent_axum::idempotent;
use utoipa_axum::{router::OpenApiRouter, routes};

#[derive(serde::Deserialize, utoipa::ToSchema)]
struct Invite {
    email: String,
}

/// Invites somebody.
#[utoipa::path(post, path = "/teams/{team}/invites", request_body = Invite, responses((status = 200, body = String)))]
#[idempotent(principal = team)]
async fn invite(Path(team): Path<u64>, Json(invite): Json<Invite>) -> Result<String, String> {
    if invite.email.is_empty() {
        Err(String::new())
    } else {
        Ok(format!("{team} {}", invite.email))
    }
}

#[utoipa::path(put, path = "/teams/{team}/invites", params(("team" = u64, Path)))]
#[axum::debug_handler]
#[idempotent]
async fn replace(Path(_team): Path<u64>, _: String) {
    tokio::task::yield_now().await;
}

fn main() {
    let (_router, api): (axum::Router, _) =
        OpenApiRouter::new().routes(routes!(invite, replace)).split_for_parts();
    let operations = &api.paths.paths["/teams/{team}/invites"];
    assert!(operations.post.is_some() && operations.put.is_some());
}
