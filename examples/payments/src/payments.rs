//! The handlers.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    routing::post,
};
use idempotent_axum::{IdempotencyKey, Tx, idempotent};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::{client::Client, error::Error, outbox};

#[derive(Clone)]
struct App {
    pool: PgPool,
    latency: Duration,
}

pub(crate) fn router(pool: PgPool, latency: Duration) -> Router {
    Router::new()
        .route("/payments", post(pay).get(list))
        .route("/payments/plain", post(pay_plainly))
        .with_state(App { pool, latency })
}

#[derive(Serialize, Deserialize)]
struct Payment {
    account: String,
    /// In the currency's minor unit, such as cents.
    amount: i64,
    currency: String,
}

/// A payment that was made.
#[derive(Serialize)]
struct Receipt {
    id: Uuid,
    #[serde(flatten)]
    payment: Payment,
}

/// The payment, its message and the response are committed together.
#[idempotent(ttl = "24h", principal = client.id)]
async fn pay(
    State(app): State<App>,
    client: Client,
    key: IdempotencyKey,
    mut tx: Tx,
    Json(payment): Json<Payment>,
) -> Result<(StatusCode, Json<Receipt>), Error> {
    let receipt = make(&mut tx, app.latency, &client, &key, payment).await?;
    Ok((StatusCode::CREATED, Json(receipt)))
}

/// The same payment in a transaction of its own, as most services make it.
///
/// Who dies between the commit and the stored response leaves a payment that the retry makes again.
#[idempotent(ttl = "24h", principal = client.id)]
async fn pay_plainly(
    State(app): State<App>,
    client: Client,
    key: IdempotencyKey,
    Json(payment): Json<Payment>,
) -> Result<(StatusCode, Json<Receipt>), Error> {
    let mut tx = app.pool.begin().await?;
    let receipt = make(&mut tx, app.latency, &client, &key, payment).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(receipt)))
}

/// Makes a payment, with its message to the ledger. Nothing is there until `tx` is committed.
async fn make(
    tx: &mut PgConnection,
    latency: Duration,
    client: &Client,
    key: &IdempotencyKey,
    payment: Payment,
) -> Result<Receipt, Error> {
    let receipt = Receipt { id: Uuid::new_v4(), payment };
    let Payment { account, amount, currency } = &receipt.payment;
    let insert = "INSERT INTO payments (id, client, account, amount, currency) \
                  VALUES ($1, $2, $3, $4, $5)";
    let insert = sqlx::query(insert).bind(receipt.id).bind(&client.id).bind(account);
    insert.bind(amount).bind(currency).persistent(false).execute(&mut *tx).await?;
    tokio::time::sleep(latency).await;
    outbox::put(tx, key.derive("ledger"), &receipt).await?;
    Ok(receipt)
}

#[derive(Deserialize)]
struct Filter {
    account: String,
}

async fn list(
    State(app): State<App>,
    client: Client,
    Query(filter): Query<Filter>,
) -> Result<Json<Vec<Receipt>>, Error> {
    let rows = sqlx::query_as(
        "SELECT id, account, amount, currency FROM payments \
         WHERE client = $1 AND account = $2 ORDER BY made",
    );
    let mut tx = app.pool.begin().await?;
    let rows =
        rows.bind(client.id).bind(filter.account).persistent(false).fetch_all(&mut *tx).await?;
    let receipt = |(id, account, amount, currency)| Receipt {
        id,
        payment: Payment { account, amount, currency },
    };
    Ok(Json(rows.into_iter().map(receipt).collect()))
}
