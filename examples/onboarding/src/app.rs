//! What the handlers share, and the routes they are reached by.

use axum::{
    Router,
    routing::{get, post},
};

use crate::{
    config::Config,
    downstream::Downstream,
    entities::{self, Entities},
    members::{self, Members},
};

#[derive(Clone)]
pub(crate) struct App {
    pub(crate) downstream: Downstream,
    pub(crate) entities: Entities,
    pub(crate) members: Members,
}

impl App {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            downstream: Downstream::new(config.latency),
            entities: Entities::default(),
            members: Members::default(),
        }
    }

    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/downstream-entities/onboarding/invite", post(entities::invite))
            .route("/downstream-entities/onboarding/add", post(entities::add))
            .route("/downstream-entities", get(entities::list))
            .route("/downstream-entities/{id}", get(entities::get))
            .route("/v1/members", post(members::create).get(members::list))
            .route("/v1/members/{id}", get(members::get))
            .with_state(self)
    }
}
