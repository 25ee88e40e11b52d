//! Handlers that describe themselves: the attribute is above `#[utoipa::path]`.
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
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use idempotent_axum::idempotent;
use utoipa_axum::{router::OpenApiRouter, routes};

#[derive(serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
struct Invite {
    email: String,
}

/// Invites somebody.
#[idempotent(ttl = "7d", principal = team)]
#[utoipa::path(
    post,
    path = "/teams/{team}/invites",
    params(("team" = u64, Path)),
    responses((status = CREATED, body = Invite), (status = 404)),
)]
async fn invite(
    State(()): State<()>,
    Path(team): Path<u64>,
    Json(invite): Json<Invite>,
) -> Result<(StatusCode, Json<Invite>), StatusCode> {
    if team == 0 || invite.email.is_empty() {
        return Err(StatusCode::NOT_FOUND);
    }
    Ok((StatusCode::CREATED, Json(invite)))
}

#[axum::debug_handler]
#[idempotent(header = "x-key", required)]
#[must_use]
#[utoipa::path(put, path = "/teams/{team}/invites", params(("team" = u64, Path)))]
#[allow(clippy::unused_async)]
async fn replace(Path(_team): Path<u64>, _: String) {}

#[idempotent(key = r#in, principal = "everyone")]
#[cfg_attr(all(), utoipa::path(patch, path = "/"), tracing::instrument)]
#[cfg(not(any()))]
async fn r#use(r#in: String) -> String {
    r#in
}

#[idempotent]
#[utoipa::path(post, path = "/")]
#[cfg(any())]
async fn left_out(_: Unknown) -> Unknown {}

mod inner {
    //! A handler in its own module.
    use idempotent_axum::idempotent;

    /// Does nothing.
    #[idempotent]
    #[utoipa::path(method(post, put), path = "/nothing", responses((status = "2XX")))]
    pub(super) async fn nothing() {}
}

fn main() {
    let (_router, api): (axum::Router, _) = OpenApiRouter::new()
        .routes(routes!(invite, replace))
        .routes(routes!(r#use))
        .routes(routes!(inner::nothing))
        .split_for_parts();
    assert_eq!(api.paths.paths.len(), 3);
}
