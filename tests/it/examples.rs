//! The single-file examples do what they say.

use std::sync::{Arc, atomic::AtomicU64, atomic::Ordering};

use http::StatusCode;
use idempotent_axum::{Idempotency, MemoryStore};
use idempotent_test_support::{Counter, post as request};

#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../examples/closure.rs"]
mod closure;
#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../examples/graphql.rs"]
mod graphql;
#[cfg(feature = "redis")]
#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../examples/queue.rs"]
mod queue;
#[cfg(feature = "testing")]
#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../examples/testing_a_handler.rs"]
mod testing_a_handler;
#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../examples/webhook.rs"]
mod webhook;

#[tokio::test]
async fn a_closure_route_runs_once_for_each_id() {
    let greeted = Counter::default();
    let count = {
        let greeted = greeted.clone();
        move || _ = greeted.add()
    };
    let app = closure::app(Idempotency::new(MemoryStore::new()), count);
    for _ in 0..2 {
        let answer = request("/greetings/1").body("Ada").send(&app).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, r#""Hello Ada""#));
    }
    let other = request("/greetings/1").body("Bob").send(&app).await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(greeted.get(), 1);
}

#[tokio::test]
async fn a_graphql_mutation_charges_once_for_each_key() {
    let app = graphql::app(Idempotency::new(MemoryStore::new()));
    let ask = async |query: &str| {
        let body = serde_json::json!({ "query": query }).to_string();
        request("/graphql").json(&body).send(&app).await.text().to_owned()
    };
    let charge = "mutation { charge(key: \"1\", cents: 700) { number } }";
    for _ in 0..2 {
        assert_eq!(ask(charge).await, r#"{"data":{"charge":{"number":1}}}"#);
    }
    let other = ask("mutation { charge(key: \"1\", cents: 800) { number } }").await;
    assert!(other.contains("the idempotency key is already used for something else"), "{other}");
    assert_eq!(ask("{ charges }").await, r#"{"data":{"charges":1}}"#);
}

#[tokio::test]
async fn a_webhook_counts_an_event_once_and_a_forged_one_never() {
    use hmac::{Hmac, KeyInit as _, Mac as _};

    let total = Arc::new(AtomicU64::new(0));
    let app = webhook::app(Arc::clone(&total));
    let deliver = async |body: &str, signed: &str| {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(webhook::SECRET).unwrap();
        mac.update(signed.as_bytes());
        let signature = hex::encode(mac.finalize().into_bytes());
        let delivery = request("/webhooks/payments").header("x-signature", signature);
        delivery.body(body.to_owned()).send(&app).await
    };
    let id = idempotent_test_support::fresh_key();
    let event = |attempt: u8| format!(r#"{{"id":"{id}","amount":7,"attempt":{attempt}}}"#);
    let forged = deliver(&event(1), "something else").await;
    assert_eq!(forged.status, StatusCode::UNAUTHORIZED);
    for attempt in 1..4 {
        let answer = deliver(&event(attempt), &event(attempt)).await;
        assert_eq!((answer.status, answer.is_replay()), (StatusCode::NO_CONTENT, attempt > 1));
    }
    let forged = deliver(&event(5), "something else").await;
    assert_eq!((forged.status, forged.is_replay()), (StatusCode::UNAUTHORIZED, false));
    assert_eq!(total.load(Ordering::Relaxed), 7);
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_message_that_is_delivered_again_charges_once() {
    use idempotent_axum::{OperationState, RedisStore};
    use redis::AsyncCommands as _;

    let server = test_servers::Redis::start();
    let store =
        idempotent_test_support::Probe::on(RedisStore::connect(server.url()).await.unwrap());
    let idempotency = Idempotency::new(store.clone());
    let client = redis::Client::open(server.url()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let _: () = redis.xgroup_create_mkstream(queue::STREAM, queue::GROUP, "0").await.unwrap();
    let pending = || server.cli(&["XPENDING", queue::STREAM, queue::GROUP]);
    let add = |card: &str| {
        server.cli(&["XADD", queue::STREAM, "*", "id", "message-1", "card", card]);
    };

    // The first consumer charges, and dies before the message is acknowledged.
    add("visa");
    let delivered = queue::deliver(&mut redis, "one").await.unwrap();
    let [message] = &*delivered else { panic!("one message: {delivered:?}") };
    let key = idempotency.operation("charge-card").key_exact("message-1");
    let mut dead = client.get_multiplexed_async_connection().await.unwrap();
    server.cli(&["ACL", "SETUSER", "default", "-xack"]);
    queue::consume(&idempotency, &mut dead, message).await.expect_err("it does not come to that");
    server.cli(&["ACL", "SETUSER", "default", "+xack"]);
    assert!(matches!(key.state().await.unwrap(), OperationState::Stored { .. }));
    assert!(pending().starts_with('1'), "{}", pending());

    // A minute later it is the next one's; and its producer has sent it again.
    let idle = ["XCLAIM", queue::STREAM, queue::GROUP, "one", "0", &message.id, "IDLE", "60000"];
    server.cli(&idle);
    add("visa");
    let delivered = queue::deliver(&mut redis, "two").await.unwrap();
    assert_eq!(delivered.len(), 2);
    let completed = store.complete.begun.get();
    for message in &delivered {
        queue::consume(&idempotency, &mut redis, message).await.unwrap();
    }
    assert_eq!(store.complete.begun.get(), completed, "nothing was charged again");
    assert!(pending().starts_with('0'), "{}", pending());

    // The same id with another card is for a person to look at.
    add("amex");
    for message in queue::deliver(&mut redis, "two").await.unwrap() {
        queue::consume(&idempotency, &mut redis, &message).await.unwrap();
    }
    let refused = server.cli(&["XRANGE", "charges:refused", "-", "+"]);
    assert!(refused.contains("already used"), "{refused}");
    assert!(pending().starts_with('0'), "{}", pending());
}

#[cfg(feature = "testing")]
#[tokio::test(start_paused = true)]
async fn a_handler_is_tested_directly_after_its_ttl_and_without_its_store() {
    let expected = "\
called directly: 201 Created
after the ttl: 201 Created
without the store: 503 Service Unavailable";
    assert_eq!(testing_a_handler::report().await, expected);
}
