//! Messages to the ledger: put in the transaction of what they tell, delivered after it.

use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;
use sqlx::{PgConnection, PgPool, types::Json};
use uuid::Uuid;

/// How long an empty outbox is left alone, and a ledger that failed.
const PAUSE: Duration = Duration::from_millis(200);

/// Puts a message. Its key is fixed here: every delivery has the same.
pub(crate) async fn put(
    tx: &mut PgConnection,
    key: Uuid,
    message: &(impl Serialize + Sync),
) -> sqlx::Result<()> {
    sqlx::query("INSERT INTO outbox (key, message) VALUES ($1, $2)")
        .bind(key)
        .bind(Json(message))
        .persistent(false)
        .execute(tx)
        .await?;
    Ok(())
}

/// Delivers messages to `ledger` for ever, beside the workers of other instances.
pub(crate) async fn deliver(pool: PgPool, ledger: String) {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build();
    let http = http.expect("the settings are valid");
    loop {
        let delivered = deliver_next(&pool, &http, &ledger).await.unwrap_or_else(|error| {
            tracing::warn!("cannot deliver to the ledger: {error:#}");
            false
        });
        if !delivered {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Delivers the next message that no other worker is delivering; false if there is none.
///
/// At least once: whoever dies between the answer and the commit leaves the message to another
/// worker, and the ledger knows it by its key.
async fn deliver_next(pool: &PgPool, http: &reqwest::Client, ledger: &str) -> anyhow::Result<bool> {
    let mut tx = pool.begin().await?;
    let next = "SELECT id, key, message FROM outbox WHERE due <= now() \
                ORDER BY due LIMIT 1 FOR UPDATE SKIP LOCKED";
    let next = sqlx::query_as(next).persistent(false).fetch_optional(&mut *tx).await?;
    let Some((id, key, Json(message))): Option<(i64, Uuid, Json<Value>)> = next else {
        return Ok(false);
    };
    let request = http.post(ledger).header("idempotency-key", key.to_string()).json(&message);
    let answer = request.send().await.and_then(reqwest::Response::error_for_status);
    let done = match answer {
        Ok(_) => "DELETE FROM outbox WHERE id = $1",
        // One that is refused must not hold up those behind it.
        Err(_) => "UPDATE outbox SET due = now() + interval '1 s' WHERE id = $1",
    };
    sqlx::query(done).bind(id).persistent(false).execute(&mut *tx).await?;
    tx.commit().await?;
    answer.map(|_| true).with_context(|| format!("message {id}"))
}
