//! A client whose POST requests are safe to retry.

use std::time::Duration;

use reqwest::{Response, header::RETRY_AFTER};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error};
use reqwest_retry::{
    DefaultRetryableStrategy, Jitter, RetryTransientMiddleware, Retryable, RetryableStrategy,
    policies::ExponentialBackoff,
};
use serde_json::{Value, json};
use uuid::Uuid;

/// Retries what the default does (no answer, 408, 429 and 5xx), and a 409 that says when: the first
/// request is still running.
struct IfItSaysWhen;

impl RetryableStrategy for IfItSaysWhen {
    fn handle(&self, result: &Result<Response, Error>) -> Option<Retryable> {
        match result {
            Ok(response) if response.headers().contains_key(RETRY_AFTER) => {
                Some(Retryable::Transient)
            }
            result => DefaultRetryableStrategy.handle(result),
        }
    }
}

pub(crate) fn retrying(client: reqwest::Client) -> ClientWithMiddleware {
    let backoff = ExponentialBackoff::builder()
        .retry_bounds(Duration::from_secs(1), Duration::from_secs(10))
        .jitter(Jitter::Bounded) // never below the first
        .build_with_max_retries(5);
    let retry = RetryTransientMiddleware::new_with_policy_and_strategy(backoff, IfItSaysWhen);
    ClientBuilder::new(client).with(retry).build()
}

/// Invites an entity; gives status, whether it was replayed, and the entity's id.
pub(crate) async fn invite(client: &ClientWithMiddleware, service: &str) -> Result<String, Error> {
    let response = client
        .post(format!("{service}/downstream-entities/onboarding/invite"))
        .header("idempotency-key", Uuid::new_v4().to_string()) // once, for all tries
        .json(&json!({"email": "ada@example.com", "entityName": "Ada Ltd"}))
        .send()
        .await?;
    let status = response.status().as_u16();
    let replayed = response.headers().contains_key("idempotent-replayed");
    let entity: Value = response.json().await?;
    Ok(format!("{status} {replayed} {}", entity["id"].as_str().unwrap_or_default()))
}
