//! A service that writes payments in its claim's transaction, and what the server then holds.

use std::sync::{Arc, LazyLock, OnceLock};

use axum::Router;
use idempotent_axum::{Idempotency, PostgresStore, PostgresStoreBuilder, TxError};
use idempotent_test_support::{Counter, Gate};
use sqlx::{PgConnection, Row as _};
use test_servers::Postgres;
use uuid::Uuid;

/// For tests that only need their own schema.
static SHARED: LazyLock<Postgres> = LazyLock::new(Postgres::start);

/// What handlers share with their test.
#[derive(Debug, Clone, Default)]
pub(crate) struct App {
    pub(crate) runs: Counter,
    pub(crate) gate: Gate,
    /// Where the server is.
    pub(crate) url: Arc<OnceLock<String>>,
}

/// A service with its own schema, for its payments table and the table of keys.
pub(crate) struct Bank<'s> {
    pub(crate) server: &'s Postgres,
    pub(crate) schema: String,
    pub(crate) app: App,
    pub(crate) idempotency: Idempotency,
    pub(crate) router: Router,
}

impl Bank<'static> {
    /// On a server shared with other tests.
    pub(crate) async fn open(routes: Router<App>) -> Self {
        Self::open_with(routes, |store| store, |idempotency| idempotency).await
    }

    /// The same with settings.
    pub(crate) async fn open_with(
        routes: Router<App>,
        store: impl FnOnce(PostgresStoreBuilder) -> PostgresStoreBuilder,
        settings: impl FnOnce(Idempotency) -> Idempotency,
    ) -> Self {
        let schema = format!("bank_{}", Uuid::new_v4().simple());
        SHARED.execute(&format!("CREATE SCHEMA {schema}"));
        let url = format!("{}?options=-c%20search_path%3D{schema}", SHARED.url());
        Self::open_in(schema, &SHARED, &url, routes, store, settings).await
    }
}

impl<'s> Bank<'s> {
    /// On its own server, reached at `url`.
    pub(crate) async fn open_at(
        server: &'s Postgres,
        url: &str,
        routes: Router<App>,
        store: impl FnOnce(PostgresStoreBuilder) -> PostgresStoreBuilder,
        settings: impl FnOnce(Idempotency) -> Idempotency,
    ) -> Self {
        Self::open_in("public".to_owned(), server, url, routes, store, settings).await
    }

    async fn open_in(
        schema: String,
        server: &'s Postgres,
        url: &str,
        routes: Router<App>,
        store: impl FnOnce(PostgresStoreBuilder) -> PostgresStoreBuilder,
        settings: impl FnOnce(Idempotency) -> Idempotency,
    ) -> Self {
        server.execute(&format!(
            "CREATE TABLE {schema}.payments (
                 id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, reference text NOT NULL
             )"
        ));
        let store = store(PostgresStore::builder().schema(&schema));
        Self::serve(schema, server, url, routes, store, settings).await
    }

    /// Another instance of the service, with its own runs.
    pub(crate) async fn second_instance(&self, routes: Router<App>) -> Self {
        let store = PostgresStore::builder().schema(&self.schema);
        let url = self.app.url.get().expect("it was said at the start");
        Self::serve(self.schema.clone(), self.server, url, routes, store, |it| it).await
    }

    async fn serve(
        schema: String,
        server: &'s Postgres,
        url: &str,
        routes: Router<App>,
        store: PostgresStoreBuilder,
        settings: impl FnOnce(Idempotency) -> Idempotency,
    ) -> Self {
        let store = store.connect(url).await.expect("the server is up");
        store.migrate().await.expect("the role may create tables");
        let idempotency = settings(Idempotency::new(store));
        let app = App::default();
        app.url.set(url.to_owned()).expect("it is new");
        let ready = routes.layer(idempotency.clone()).with_state(app.clone());
        Self { server, schema, app, idempotency, router: ready }
    }

    /// What `psql` prints for a query in this schema.
    pub(crate) fn query(&self, sql: &str) -> String {
        let Self { server, schema, .. } = self;
        let answer = server.execute(&format!("SET search_path = {schema}; {sql}"));
        answer.trim().to_owned()
    }

    /// The references of all payments, in order.
    pub(crate) fn payments(&self) -> Vec<String> {
        let rows = self.query("SELECT reference FROM payments ORDER BY id");
        rows.lines().map(str::to_owned).collect()
    }

    /// How many keys the store holds something for.
    pub(crate) fn keys(&self) -> usize {
        self.query("SELECT count(*) FROM idempotency_keys").parse().expect("a number")
    }
}

/// Writes a payment, and returns a unique body.
pub(crate) async fn insert(tx: &mut PgConnection, reference: &str) -> Result<String, TxError> {
    let row = sqlx::query("INSERT INTO payments (reference) VALUES ($1) RETURNING id")
        .bind(reference)
        .fetch_one(tx)
        .await?;
    let id: i64 = row.try_get(0)?;
    Ok(format!("payment {id} of {reference}"))
}
