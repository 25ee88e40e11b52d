//! A consumer of a Redis stream, which delivers a message again if its consumer dies, or is slow.
//!
//! `cargo run --example queue --features redis -- redis://127.0.0.1`, and then, as often as you like:
//! `redis-cli XADD charges '*' id 1 card visa`

use idempotent_axum::{Idempotency, IdempotencyKey, RedisStore, RunError};
use redis::{
    AsyncCommands as _, RedisResult, aio::MultiplexedConnection, streams::StreamId,
    streams::StreamReadOptions, streams::StreamReadReply,
};
use std::{convert::Infallible, env, error::Error};

pub(crate) const STREAM: &str = "charges";
pub(crate) const GROUP: &str = "billing";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).unwrap_or_else(|| "redis://127.0.0.1".to_owned());
    let idempotency = Idempotency::new(RedisStore::connect(&url).await?);
    let mut redis = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let _: RedisResult<()> = redis.xgroup_create_mkstream(STREAM, GROUP, "0").await;
    loop {
        for message in deliver(&mut redis, "consumer-1").await? {
            consume(&idempotency, &mut redis, &message).await?;
        }
    }
}

/// New messages; and those that another consumer has had for a minute, or this one before it died.
pub(crate) async fn deliver(
    redis: &mut MultiplexedConnection,
    consumer: &str,
) -> RedisResult<Vec<StreamId>> {
    let mut claim = redis::cmd("XAUTOCLAIM");
    claim.arg(STREAM).arg(GROUP).arg(consumer).arg(60_000).arg("0").arg("COUNT").arg(10);
    let claimed: redis::streams::StreamAutoClaimReply = claim.query_async(redis).await?;
    let options = StreamReadOptions::default().group(GROUP, consumer).count(10).block(100);
    let new: Option<StreamReadReply> = redis.xread_options(&[STREAM], &[">"], &options).await?;
    let new = new.into_iter().flat_map(|new| new.keys).flat_map(|stream| stream.ids);
    Ok(claimed.claimed.into_iter().chain(new).collect())
}

/// Charges the card once for each message, and acknowledges it.
pub(crate) async fn consume(
    idempotency: &Idempotency,
    redis: &mut MultiplexedConnection,
    message: &StreamId,
) -> RedisResult<()> {
    let (id, card): (String, String) =
        (message.get("id").unwrap_or_default(), message.get("card").unwrap_or_default());
    let key = idempotency.operation("charge-card").key_exact(&id).fingerprint(&card);
    match key.run(|key| charge(key, card)).await {
        Ok(done) => println!("{id}: {}, replayed: {}", done.value, done.replayed),
        // It stays in the stream, and is delivered again.
        Err(error) if error.is_worth_retrying() => return Ok(()),
        Err(error) => {
            let error: RunError<Infallible> = error;
            let _: Option<String> = redis
                .xadd("charges:refused", "*", &[("id", id), ("why", error.to_string())])
                .await?;
        }
    }
    redis.xack(STREAM, GROUP, &[&message.id]).await
}

async fn charge(key: IdempotencyKey, card: String) -> Result<String, Infallible> {
    // The provider takes a key as well: it sees the same one if this process dies half way.
    tokio::task::yield_now().await; // stands for the call
    Ok(format!("charged {card} under {}", key.derive("provider")))
}
