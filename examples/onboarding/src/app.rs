//! What the handlers share, and the routes they are reached by.

use axum::Router;
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{self, Api},
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
        let (router, document) = OpenApiRouter::with_openapi(Api::openapi())
            .routes(routes!(entities::invite))
            .routes(routes!(entities::add))
            .routes(routes!(entities::list))
            .routes(routes!(entities::get))
            .routes(routes!(members::create, members::list))
            .routes(routes!(members::get))
            .split_for_parts();
        router.with_state(self).merge(api::docs(document))
    }
}
