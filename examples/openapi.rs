//! A document that tells clients about the key: its header, its errors, and how long a response is replayed.
//!
//! ```text
//! cargo run --example openapi --features utoipa
//! curl 127.0.0.1:3000/openapi.json
//! curl -i 127.0.0.1:3000/invites -H 'idempotency-key: 8e03978e-40d5-43e8-bc93-6894a57f9324' \
//!     --json '{"email": "ada@example.com"}'
//! ```

use axum::{Json, Router, http::StatusCode, routing::get};
use idempotent_axum::idempotent;
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app()).await
}

pub(crate) fn app() -> Router {
    let routes = OpenApiRouter::with_openapi(Api::openapi()).routes(routes!(invite));
    let (app, document) = routes.split_for_parts();
    app.route("/openapi.json", get(async move || Json(document)))
}

#[derive(OpenApi)]
#[openapi(info(title = "Invites", version = "1"))]
struct Api;

#[derive(Deserialize, Serialize, ToSchema)]
struct Invite {
    email: String,
}

/// Invites somebody.
// The attribute goes above `#[utoipa::path]`, and adds what it knows.
#[idempotent(ttl = "7d", required)]
#[utoipa::path(post, path = "/invites", responses((status = 201, body = Invite)))]
async fn invite(Json(invite): Json<Invite>) -> (StatusCode, Json<Invite>) {
    (StatusCode::CREATED, Json(invite))
}
