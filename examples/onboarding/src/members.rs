//! The Members API: each client's own members.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    extract::{Path, State},
    http::{StatusCode, header},
    response::IntoResponse,
};
use idempotent_axum::idempotent;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    api::{EmailTaken, InvalidBody, NotFound, Unauthorized},
    app::App,
    auth::Client,
    error::Error,
    fields::{Email, Text},
    json::Json,
};

/// What a client says about a member.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewMember {
    first_name: Text,
    last_name: Text,
    email: Email,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<Text>,
    /// Further fields, kept as they are.
    #[serde(flatten)]
    further: Map<String, Value>,
}

#[derive(Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Member {
    #[serde(rename = "memberId")]
    id: String,
    #[schema(inline)]
    tier: Tier,
    worker_id: String,
    #[schema(inline)]
    status: Status,
    #[serde(flatten)]
    input: NewMember,
    #[serde(skip)]
    client_id: String,
}

#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Tier {
    Standard,
}

#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Status {
    Active,
}

/// Creates a member.
///
/// Clients choose keys of their own kind, so a key means something only together with its client; and
/// a refusal is not the last word, so only successes are replayed.
#[idempotent(
    ttl = "7d",
    header = "x-idempotency-key",
    format = "any",
    principal = client.id,
    replay = "2xx"
)]
#[utoipa::path(
    post,
    path = "/v1/members",
    operation_id = "create_member",
    tag = "members",
    security(("token" = [])),
    responses(
        InvalidBody,
        Unauthorized,
        EmailTaken,
        (status = 201, description = "It is created", body = Member, headers(("location" = String))),
    ),
)]
pub(crate) async fn create(
    State(app): State<App>,
    client: Client,
    Json(input): Json<NewMember>,
) -> Result<impl IntoResponse, Error> {
    app.downstream.call().await;
    let member = app.members.create(client, input)?;
    let location = format!("/v1/members/{}", member.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(member)))
}

/// All members of the client, in the order they were created.
#[utoipa::path(
    get,
    path = "/v1/members",
    operation_id = "list_members",
    tag = "members",
    security(("token" = [])),
    responses(
        Unauthorized,
        (status = 200, description = "All members", body = Vec<Member>),
    ),
)]
pub(crate) async fn list(State(app): State<App>, client: Client) -> Json<Vec<Member>> {
    Json(app.members.of(&client))
}

/// One member of the client.
#[utoipa::path(
    get,
    path = "/v1/members/{id}",
    operation_id = "get_member",
    tag = "members",
    security(("token" = [])),
    responses(
        Unauthorized,
        NotFound,
        (status = 200, description = "It is there", body = Member),
    ),
)]
pub(crate) async fn get(
    State(app): State<App>,
    client: Client,
    Path(id): Path<String>,
) -> Result<Json<Member>, Error> {
    let mut members = app.members.of(&client).into_iter();
    members.find(|member| member.id == id).map(Json).ok_or(Error::NotFound)
}

/// All members, in the order they were created. A real service has a database here.
#[derive(Clone, Default)]
pub(crate) struct Members(Arc<Mutex<Vec<Member>>>);

impl Members {
    /// Creates a member, unless the client has one with this email.
    fn create(&self, client: Client, mut input: NewMember) -> Result<Member, Error> {
        // These are the service's to say.
        let own = ["memberId", "tier", "workerId", "status"];
        input.further.retain(|field, _| !own.contains(&field.as_str()));
        self.with(|members| {
            let taken = members.iter().any(|member| {
                member.client_id == client.id && member.input.email.is_same(&input.email)
            });
            if taken {
                return Err(Error::EmailTaken);
            }
            let member = Member {
                id: format!("mem_{}", Uuid::new_v4().simple()),
                tier: Tier::Standard,
                worker_id: format!("wrk_{}", Uuid::new_v4().simple()),
                status: Status::Active,
                input,
                client_id: client.id,
            };
            tracing::info!(member.id, "member created");
            members.push(member.clone());
            Ok(member)
        })
    }

    fn of(&self, client: &Client) -> Vec<Member> {
        self.with(|members| {
            members.iter().filter(|member| member.client_id == client.id).cloned().collect()
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut Vec<Member>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
