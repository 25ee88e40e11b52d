//! Work whose key is named by hand.

use http::StatusCode;
use idempotent_axum::{Idempotency, MemoryStore};
use idempotent_test_support::{Counter, post as request};

#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../../examples/closure.rs"]
mod closure;
#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../../examples/graphql.rs"]
mod graphql;
#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../../examples/job.rs"]
mod job;
#[cfg(feature = "redis")]
#[allow(dead_code, reason = "its `main` is not called")]
#[path = "../../../examples/queue.rs"]
mod queue;

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
async fn a_job_that_is_started_again_does_what_is_left() {
    let idempotency = Idempotency::new(MemoryStore::new());
    let first = "\
ada: 700 cents, sent in round 1
bob: next time: the mailbox is full";
    let second = "\
ada: 700 cents, sent in round 1, before
bob: 900 cents, sent in round 2";
    assert_eq!(job::bill(&idempotency, "2026-11", 1).await, first);
    assert_eq!(job::bill(&idempotency, "2026-11", 2).await, second);
    let december = job::bill(&idempotency, "2026-12", 3).await;
    assert_eq!(december.matches("sent in round 3").count(), 2, "{december}");
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

    // A minute later the next consumer gets it; and its producer has sent it again.
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

    // The same id with a different card needs a person to look at it.
    add("amex");
    for message in queue::deliver(&mut redis, "two").await.unwrap() {
        queue::consume(&idempotency, &mut redis, &message).await.unwrap();
    }
    let refused = server.cli(&["XRANGE", "charges:refused", "-", "+"]);
    assert!(refused.contains("already used"), "{refused}");
    assert!(pending().starts_with('0'), "{}", pending());
}
