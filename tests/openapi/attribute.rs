use axum::{Json, Router};
use idempotent_axum::idempotent;
use serde_json::Value;
use utoipa_axum::{router::OpenApiRouter, routes};

#[derive(serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
struct Invite {
    email: String,
}

/// Invites somebody.
#[idempotent(ttl = "7d")]
#[utoipa::path(post, path = "/invites", responses((status = 201, body = Invite)))]
async fn invite(Json(invite): Json<Invite>) -> Json<Invite> {
    Json(invite)
}

#[test]
fn t() {
    let (_router, api): (Router, _) =
        OpenApiRouter::new().routes(routes!(invite)).split_for_parts();
    let v: Value = serde_json::to_value(&api).unwrap();
    println!("{}", serde_json::to_string_pretty(&v).unwrap());
}
