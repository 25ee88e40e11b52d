//! A GraphQL mutation whose key is an argument: all operations share one route, so the mutation names
//! its key by hand.
//!
//! `cargo run --example graphql`, then twice
//! `curl 127.0.0.1:3000/graphql --json '{"query": "mutation { charge(key: \"1\", cents: 700) { number } }"}'`

use std::{
    convert::Infallible,
    sync::atomic::{AtomicU64, Ordering},
};

use async_graphql::{Context, EmptySubscription, Object, Request, Response, Schema, SimpleObject};
use axum::{Json, Router, extract::State, routing::post};
use idempotent_axum::{Idempotency, MemoryStore};
use serde::{Deserialize, Serialize};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app(Idempotency::new(MemoryStore::new()))).await
}

type Api = Schema<Query, Mutation, EmptySubscription>;

pub(crate) fn app(idempotency: Idempotency) -> Router {
    let api = Api::build(Query, Mutation, EmptySubscription).data(idempotency).finish();
    Router::new().route("/graphql", post(execute)).with_state(api)
}

async fn execute(State(api): State<Api>, Json(request): Json<Request>) -> Json<Response> {
    Json(api.execute(request).await)
}

/// How many charges there were.
static CHARGES: AtomicU64 = AtomicU64::new(0);

struct Query;

#[Object]
impl Query {
    async fn charges(&self) -> u64 {
        CHARGES.load(Ordering::Relaxed)
    }
}

#[derive(SimpleObject, Serialize, Deserialize)]
struct Receipt {
    number: u64,
}

struct Mutation;

#[Object]
impl Mutation {
    async fn charge(
        &self,
        ctx: &Context<'_>,
        key: String,
        cents: u64,
    ) -> async_graphql::Result<Receipt> {
        let operation = ctx.data::<Idempotency>()?.operation("charge");
        let run = operation.key(key).fingerprint(&cents).run(async |_| {
            Ok::<_, Infallible>(Receipt { number: CHARGES.fetch_add(1, Ordering::Relaxed) + 1 })
        });
        Ok(run.await?.value)
    }
}
