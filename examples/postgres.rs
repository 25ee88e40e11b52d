//! Exactly once: the payment's row is written in the transaction that also holds the claim and the stored
//! response, so they exist together or not at all.
//!
//! ```text
//! DATABASE_URL=postgres://app:secret@127.0.0.1/app cargo run --example postgres --features postgres
//! curl -i 127.0.0.1:3000/payments -H 'idempotency-key: 8e03978e-40d5-43e8-bc93-6894a57f9324' -d '700'
//! ```

use std::{env, error::Error, time::Duration};

use axum::{Router, http::StatusCode, routing::post};
use idempotent_axum::{Idempotency, PostgresStore, Tx, TxError, idempotent};
use sqlx::PgPool;
use tokio::{net::TcpListener, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let idempotency = idempotency(&env::var("DATABASE_URL")?).await?;
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    let stop = async { _ = signal::ctrl_c().await };
    axum::serve(listener, app(idempotency.clone())).with_graceful_shutdown(stop).await?;
    idempotency.drain().await;
    Ok(())
}

pub(crate) async fn idempotency(url: &str) -> Result<Idempotency, Box<dyn Error>> {
    let pool = PgPool::connect(url).await?;
    sqlx::raw_sql(TABLES).execute(&pool).await?;
    let store = PostgresStore::connect(url).await?;
    store.migrate().await?; // its own table
    store.purge_expired(Duration::from_secs(60)).detach();
    Ok(Idempotency::new(store))
}

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS payments (id bigserial PRIMARY KEY, cents bigint NOT NULL);
    CREATE TABLE IF NOT EXISTS accounts (name text PRIMARY KEY, cents bigint NOT NULL);
    INSERT INTO accounts VALUES ('ada', 1000) ON CONFLICT DO NOTHING;";

pub(crate) fn app(idempotency: Idempotency) -> Router {
    Router::new().route("/payments", post(pay)).layer(idempotency)
}

#[idempotent(ttl = "24h")]
async fn pay(mut tx: Tx, cents: String) -> Result<(StatusCode, String), TxError> {
    let Ok(cents) = cents.parse::<u32>().map(i64::from) else {
        return Ok((StatusCode::BAD_REQUEST, "a number of cents, please\n".to_owned()));
    };
    let insert = "INSERT INTO payments (cents) VALUES ($1) RETURNING id";
    let id: i64 = sqlx::query_scalar(insert).bind(cents).fetch_one(&mut *tx).await?;
    let update = "UPDATE accounts SET cents = cents - $1 WHERE name = 'ada' RETURNING cents";
    let left: i64 = sqlx::query_scalar(update).bind(cents).fetch_one(&mut *tx).await?;
    if left < 0 {
        // A 402 is not stored: both statements are rolled back, and the key is free.
        return Ok((StatusCode::PAYMENT_REQUIRED, "not enough\n".to_owned()));
    }
    Ok((StatusCode::CREATED, format!("payment {id}, {left} cents left\n")))
}
