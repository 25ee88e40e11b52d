//! A dump of a store contains no response, key or principal, in plain text, hex or base64.

use axum::{Router, http::HeaderMap, routing::post as route};
use idempotent_axum::{Idempotency, PostgresStore, RedisStore, Store, Tx, TxError, idempotent};
use idempotent_test_support::post;
use test_servers::{Postgres, Redis};

use super::{DIGEST, NEW, OLD, dump::Dump, new, text};
use crate::nothing_leaks::witness::tells;

const UUID: &str = "5ec2e75e-0c4d-4b1d-8f6a-9d3c7b21e0fa";
const TEXT: &str = "sk_live_9f8e7d6c5b4a";
const PRINCIPAL: &str = "ann@secret.example";
const BODY: &str = "pay to DE89 3704 0044";
/// From a response, so in plain text unless sealed.
const NAME: &str = "Ann Onymous, Elm Street";
const TOKEN: &str = "access-token-8c1d7a";
const VALUE: &str = "receipt of a job";

fn user(headers: &HeaderMap) -> Option<String> {
    Some(headers.get("x-user")?.to_str().expect("ASCII").to_owned())
}

type Response = ([(&'static str, &'static str); 1], String);

fn response(body: &str) -> Response {
    ([("x-token", TOKEN)], format!("{NAME} wants to {body}"))
}

#[idempotent(principal = user(&headers))]
async fn uuid(headers: HeaderMap, body: String) -> Response {
    drop(headers);
    response(&body)
}

#[idempotent(format = "any", principal = user(&headers))]
async fn any(headers: HeaderMap, body: String) -> Response {
    drop(headers);
    response(&body)
}

#[idempotent(principal = user(&headers))]
async fn transaction(headers: HeaderMap, tx: Tx, body: String) -> Result<Response, TxError> {
    drop((headers, tx));
    Ok(response(&body))
}

/// Runs a request on each of these paths, and a job, and replays them.
async fn run(idempotency: &Idempotency, paths: &[(&'static str, &str)]) {
    let router = Router::new()
        .route("/uuid", route(uuid))
        .route("/any", route(any))
        .route("/transaction", route(transaction))
        .layer(idempotency.clone());
    for is_replay in [false, true] {
        for (path, key) in paths {
            let ask = post(path).key(key).header("x-user", PRINCIPAL).body(BODY);
            let answer = ask.send(&router).await;
            assert_eq!((answer.status.as_u16(), answer.is_replay()), (200, is_replay), "{path}");
            assert_eq!(answer.text(), response(BODY).1);
            assert_eq!(answer.header("x-token"), Some(TOKEN));
        }
        let job = idempotency.operation("charge").principal(PRINCIPAL).key(TEXT);
        let done = job.fingerprint(BODY).run(async |_| Ok::<_, ()>(VALUE.to_owned())).await;
        let done = done.unwrap();
        assert_eq!((done.value.as_str(), done.replayed), (VALUE, is_replay));
    }
}

fn protected(store: impl Store) -> Idempotency {
    Idempotency::new(store).seal(new()).digest_secret(*DIGEST)
}

/// Asserts that the protected dump reveals nothing, and that of a service without sealing and a
/// digest secret only responses.
fn assert_silent(protected: &Dump, plain: &Dump) {
    let (sealed, plain) = (protected.text(), plain.text());
    for (what, in_plain) in [
        (NAME, true),
        (TOKEN, true),
        (VALUE, true),
        (BODY, true), // which the response mentions
        (UUID, false),
        (TEXT, false),
        (PRINCIPAL, false),
        (text(OLD), false),
        (text(NEW), false),
        (text(DIGEST), false),
    ] {
        assert!(!tells(&sealed, what), "{what:?} in {protected:?}");
        assert_eq!(tells(&plain, what), in_plain, "{what:?}");
    }
    // The id of the sealing key may be known: it comes after its length.
    assert!(sealed.contains("\u{7}2026-11") && !plain.contains("\u{7}2026-11"));
}

#[tokio::test]
async fn a_dump_of_redis_tells_nothing() {
    let mut dumps = Vec::new();
    for is_protected in [true, false] {
        let redis = Redis::start();
        let store = RedisStore::connect(redis.url()).await.unwrap();
        let settings = if is_protected { protected(store) } else { Idempotency::new(store) };
        run(&settings, &[("/uuid", UUID), ("/any", TEXT)]).await;
        assert_eq!(redis.cli(&["DBSIZE"]), "3");
        dumps.push(Dump::of_redis(&redis).await);
    }
    assert_silent(&dumps[0], &dumps[1]);
}

#[tokio::test]
async fn a_dump_of_postgres_tells_nothing() {
    let mut dumps = Vec::new();
    for is_protected in [true, false] {
        let postgres = Postgres::start();
        let store = PostgresStore::connect(&postgres.url()).await.unwrap();
        store.migrate().await.unwrap();
        let settings = if is_protected { protected(store) } else { Idempotency::new(store) };
        run(&settings, &[("/uuid", UUID), ("/any", TEXT), ("/transaction", UUID)]).await;
        assert_eq!(postgres.execute("SELECT count(*) FROM idempotency_keys"), "4");
        dumps.push(Dump::of_postgres(&postgres));
    }
    assert_silent(&dumps[0], &dumps[1]);
}
