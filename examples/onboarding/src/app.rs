//! What the handlers share, and the routes they are reached by.

use axum::Router;
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{self, Api},
    config::Config,
    downstream::Downstream,
    entities::{self, Entities},
    live::Live,
    members::{self, Members},
    page,
};

#[derive(Clone)]
pub(crate) struct App {
    pub(crate) downstream: Downstream,
    pub(crate) entities: Entities,
    pub(crate) members: Members,
    /// Who is told what happens.
    pub(crate) live: Live,
}

impl App {
    pub(crate) fn new(config: &Config) -> Self {
        let live = Live::new();
        Self {
            downstream: Downstream::new(config.latency),
            entities: Entities::new(live.clone()),
            members: Members::default(),
            live,
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
        let page = page::router(&self);
        router.with_state(self).merge(api::docs(document)).merge(page)
    }
}
