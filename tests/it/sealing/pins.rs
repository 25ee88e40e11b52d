//! An attacker with a dump tries all PINs: with a digest secret none is found.

use axum::{Router, http::HeaderMap, routing::post as route};
use idempotent_axum::{Idempotency, PostgresStore, RedisStore, Store, idempotent};
use idempotent_test_support::{Ask, Leased, Probe, post};
use test_servers::{Postgres, Redis};

use super::{DIGEST, OLD, dump::Dump};

/// What is guessed: whose request it was, and what was in it.
const PRINCIPAL: usize = 4711;
const BODY: usize = 815;
const NONE: [Vec<usize>; 2] = [Vec::new(), Vec::new()];
/// What is known.
const KEY: &str = "order-7";

#[idempotent(format = "any", principal = user(&headers))]
async fn withdraw(headers: HeaderMap, body: String) -> &'static str {
    drop((headers, body));
    "done"
}

fn user(headers: &HeaderMap) -> String {
    headers["x-user"].to_str().expect("ASCII").to_owned()
}

fn router(idempotency: Idempotency) -> Router {
    Router::new().route("/withdraw", route(withdraw)).layer(idempotency)
}

fn request(principal: usize, body: usize) -> Ask {
    let ask = post("/withdraw").key(KEY).header("x-user", format!("{principal:04}"));
    ask.body(format!("pin {body:04}"))
}

/// One request.
async fn run(store: impl Store, secret: Option<[u8; 32]>) {
    let idempotency = with_secret(Idempotency::new(store), secret);
    let answer = request(PRINCIPAL, BODY).send(&router(idempotency)).await;
    assert_eq!(answer.text(), "done");
}

fn with_secret(idempotency: Idempotency, secret: Option<[u8; 32]>) -> Idempotency {
    match secret {
        Some(secret) => idempotency.digest_secret(secret),
        None => idempotency,
    }
}

/// The digests of all guesses.
struct Guesses {
    principals: Vec<[u8; 16]>,
    bodies: Vec<[u8; 16]>,
}

impl Guesses {
    /// Made by running the service's code with this secret.
    async fn make(secret: Option<[u8; 32]>) -> Self {
        let probe = Probe::on(Leased::default());
        let idempotency = with_secret(Idempotency::new(probe.clone()), secret);
        let principal = |pin: usize| {
            let operation = idempotency.operation("POST /withdraw");
            *operation.principal(format!("{pin:04}")).key_exact(KEY).digest().as_bytes()
        };
        let principals = (0..10_000).map(principal).collect();
        let router = router(idempotency.clone());
        for pin in 0..10_000 {
            request(0, pin).send(&router).await;
        }
        let claims = probe.claims().into_iter();
        let bodies = claims.map(|(_, fingerprint)| *fingerprint.as_bytes()).collect();
        Self { principals, bodies }
    }

    /// The principals and the bodies that are found.
    fn search(&self, dump: &Dump) -> [Vec<usize>; 2] {
        // Redis stores names in hex.
        let (bytes, in_hex) = (dump.windows(16), dump.windows(32));
        [&self.principals, &self.bodies].map(|guesses| {
            assert_eq!(guesses.len(), 10_000);
            let found = |pin: &usize| {
                let guess = guesses[*pin];
                bytes.contains(&guess[..]) || in_hex.contains(hex::encode(guess).as_bytes())
            };
            (0..10_000).filter(found).collect()
        })
    }
}

#[tokio::test]
async fn a_search_over_10_000_pins_finds_nothing_under_a_digest_secret() {
    let guesses = Guesses::make(None).await;
    let with_another = Guesses::make(Some(*OLD)).await;
    for secret in [None, Some(*DIGEST)] {
        let redis = Redis::start();
        run(RedisStore::connect(redis.url()).await.unwrap(), secret).await;
        let postgres = Postgres::start();
        let store = PostgresStore::connect(&postgres.url()).await.unwrap();
        store.migrate().await.unwrap();
        run(store, secret).await;
        for dump in [Dump::of_redis(&redis).await, Dump::of_postgres(&postgres)] {
            let found = match secret {
                None => [vec![PRINCIPAL], vec![BODY]],
                Some(_) => NONE,
            };
            assert_eq!(guesses.search(&dump), found);
            assert_eq!(with_another.search(&dump), NONE);
        }
    }
    // It is the secret that makes the difference.
    let redis = Redis::start();
    run(RedisStore::connect(redis.url()).await.unwrap(), Some(*OLD)).await;
    let dump = Dump::of_redis(&redis).await;
    assert_eq!(with_another.search(&dump), [vec![PRINCIPAL], vec![BODY]]);
}
