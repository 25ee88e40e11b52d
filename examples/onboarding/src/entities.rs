//! The onboarding API: downstream entities, invited or added.

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
    api::{InvalidBody, NotFound},
    app::App,
    error::Error,
    fields::{Email, Text},
    json::Json,
    live::{Happening, Live},
};

/// What a caller says about an entity.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewEntity {
    email: Email,
    entity_name: Text,
    /// Further fields, kept as they are.
    #[serde(flatten)]
    further: Map<String, Value>,
}

#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct Entity {
    id: String,
    #[schema(inline)]
    status: Status,
    #[serde(flatten)]
    input: NewEntity,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Status {
    Invited,
    Added,
}

/// Invites an entity to onboard itself.
#[idempotent(ttl = "1h", header = ["idempotency-key", "x-idempotency-key"], format = "uuid")]
#[utoipa::path(
    post,
    path = "/downstream-entities/onboarding/invite",
    operation_id = "invite_entity",
    tag = "entities",
    responses(
        InvalidBody,
        (status = 201, description = "It is invited", body = Entity, headers(("location" = String))),
    ),
)]
pub(crate) async fn invite(
    State(app): State<App>,
    Json(input): Json<NewEntity>,
) -> impl IntoResponse {
    app.downstream.call().await;
    created(app.entities.create(input, Status::Invited))
}

/// Adds an entity without its doing.
#[idempotent(ttl = "1h", header = ["idempotency-key", "x-idempotency-key"], format = "uuid")]
#[utoipa::path(
    post,
    path = "/downstream-entities/onboarding/add",
    operation_id = "add_entity",
    tag = "entities",
    responses(
        InvalidBody,
        (status = 201, description = "It is added", body = Entity, headers(("location" = String))),
    ),
)]
pub(crate) async fn add(State(app): State<App>, Json(input): Json<NewEntity>) -> impl IntoResponse {
    app.downstream.call().await;
    created(app.entities.create(input, Status::Added))
}

/// All entities, in the order they were created.
#[utoipa::path(
    get,
    path = "/downstream-entities",
    operation_id = "list_entities",
    tag = "entities",
    responses(
        (status = 200, description = "All entities", body = Vec<Entity>),
    ),
)]
pub(crate) async fn list(State(app): State<App>) -> Json<Vec<Entity>> {
    Json(app.entities.all())
}

/// One entity.
#[utoipa::path(
    get,
    path = "/downstream-entities/{id}",
    operation_id = "get_entity",
    tag = "entities",
    responses(
        NotFound,
        (status = 200, description = "It is there", body = Entity),
    ),
)]
pub(crate) async fn get(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Entity>, Error> {
    app.entities.find(&id).map(Json).ok_or(Error::NotFound)
}

fn created(entity: Entity) -> impl IntoResponse {
    let location = format!("/downstream-entities/{}", entity.id);
    (StatusCode::CREATED, [(header::LOCATION, location)], Json(entity))
}

/// All entities, in the order they were created. A real service has a database here.
#[derive(Clone)]
pub(crate) struct Entities {
    all: Arc<Mutex<Vec<Entity>>>,
    /// Who is told of each new one.
    live: Live,
}

impl Entities {
    pub(crate) fn new(live: Live) -> Self {
        Self { all: Arc::default(), live }
    }

    fn create(&self, mut input: NewEntity, status: Status) -> Entity {
        // These are the service's to say.
        input.further.retain(|field, _| !["id", "status"].contains(&field.as_str()));
        let id = format!("ent_{}", Uuid::new_v4().simple());
        tracing::info!(id, ?status, "entity created");
        let entity = Entity { id, status, input };
        self.with(|entities| entities.push(entity.clone()));
        self.live.tell(Happening::Created);
        entity
    }

    fn all(&self) -> Vec<Entity> {
        self.with(|entities| entities.clone())
    }

    fn find(&self, id: &str) -> Option<Entity> {
        self.with(|entities| entities.iter().find(|entity| entity.id == id).cloned())
    }

    fn with<T>(&self, f: impl FnOnce(&mut Vec<Entity>) -> T) -> T {
        f(&mut self.all.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
