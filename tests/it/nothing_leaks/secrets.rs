//! No log, answer or `Debug` contains a key or a principal, in plain text, hex or base64, whatever
//! becomes of a request, even if a subscriber wants every event and every span.

use std::{collections::BTreeSet, fmt::Debug, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::post as route,
};
use idempotent_axum::{
    Idempotency, IdempotencyKey, MemoryStore, Outcome, Problem, Store, idempotent,
};
use idempotent_test_support::{Ask, Fault, Gate, Leased, Probe, fresh_key, post};

use super::witness::Witness;

const UUID: &str = "5ec2e75e-0c4d-4b1d-8f6a-9d3c7b21e0fa";
const TEXT: &str = "sk_live_9f8e7d6c5b4a";
const PRINCIPAL: &str = "ann@secret.example";
const SECRETS: [&str; 3] = [UUID, TEXT, PRINCIPAL];

/// Each route with the key that it is asked with.
const KEYS: [(&str, &str); 3] = [("/uuid", UUID), ("/any", TEXT), ("/derived", TEXT)];

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().expect("ASCII").to_owned())
}

#[idempotent(required, wait = "1h", principal = header(&headers, "x-user"))]
async fn uuid(
    gate: State<Gate>,
    headers: HeaderMap,
    key: IdempotencyKey,
    body: String,
) -> Response {
    drop(headers);
    act(&gate, &key, &body).await
}

#[idempotent(format = "any", wait = "1h", principal = header(&headers, "x-user"))]
async fn any(gate: State<Gate>, headers: HeaderMap, key: IdempotencyKey, body: String) -> Response {
    drop(headers);
    act(&gate, &key, &body).await
}

#[idempotent(
    key = header(&headers, "idempotency-key"),
    fingerprint = "request",
    wait = "0s",
    principal = header(&headers, "x-user")
)]
async fn derived(
    gate: State<Gate>,
    headers: HeaderMap,
    key: IdempotencyKey,
    body: String,
) -> Response {
    drop(headers);
    act(&gate, &key, &body).await
}

/// Does what the body says, and shows the key as a log would.
async fn act(gate: &Gate, key: &IdempotencyKey, body: &str) -> Response {
    let shown = format!("{key:?}");
    match body {
        "waits" => drop(gate.pass().await),
        "fails at the gate" => {
            gate.pass().await;
            return (StatusCode::BAD_GATEWAY, shown).into_response();
        }
        "sleeps" => tokio::time::sleep(Duration::from_secs(35)).await,
        "fails" => return (StatusCode::BAD_GATEWAY, shown).into_response(),
        "unknown" => return (Outcome::Unknown, shown).into_response(),
        "large" => return "x".repeat(2000).into_response(),
        _ => {}
    }
    shown.into_response()
}

fn request(path: &str, key: &str, body: &'static str) -> Ask {
    post(path).key(key).header("x-user", PRINCIPAL).body(body)
}

struct Service<S> {
    witness: Witness,
    probe: Probe<S>,
    idempotency: Idempotency,
    router: Router,
    gate: Gate,
}

impl<S: Store + Clone + Debug> Service<S> {
    /// A service on this store whose problems the witness sees as an `error_response` does.
    fn on(store: S) -> Self {
        let (witness, probe, gate) = (Witness::new(), Probe::on(store), Gate::default());
        let shown = witness.shown();
        let idempotency = Idempotency::new(probe.clone()).max_response_bytes(1000).error_response(
            move |problem: Problem| {
                shown.add(format!("{problem:?}"));
                problem
            },
        );
        let router = Router::new()
            .route("/uuid", route(uuid))
            .route("/any", route(any))
            .route("/derived", route(derived))
            .layer(idempotency.clone())
            .with_state(gate.clone());
        Self { witness, probe, idempotency, router, gate }
    }

    /// Runs once with each key, and replays it.
    async fn run_and_replay(&self) {
        for (path, key) in KEYS {
            let send = async || self.witness.send(request(path, key, ""), &self.router).await;
            let first = send().await;
            assert_eq!((first.text(), first.is_replay()), ("IdempotencyKey(set)", false));
            assert!(send().await.is_replay());
        }
        self.witness.assert_logged("response replayed");
    }

    /// Sends a request twice; returns the `code` of the second answer.
    async fn twice(&self, path: &str, key: &str, bodies: [&'static str; 2]) -> String {
        let first = self.witness.send(request(path, key, bodies[0]), &self.router).await;
        assert_eq!(first.status, 200);
        self.witness.send(request(path, key, bodies[1]), &self.router).await.problem().1
    }

    /// Asserts that nothing leaked: not into what was recorded, nor into what the store was told,
    /// nor into the `Debug` of settings and store.
    fn assert_nothing_leaked(&self) {
        let shown = self.witness.shown();
        shown.add(format!("{:?} {:?}", self.idempotency, self.probe));
        shown.add(format!("{:?}", self.probe.claims()));
        assert!(!self.probe.claims().is_empty());
        self.witness.assert_silent_about(&SECRETS);
    }
}

#[tokio::test]
async fn a_first_run_and_its_replays_leak_nothing() {
    let service = Service::on(Leased::default());
    service.run_and_replay().await;
    // As a client may write it, and without one.
    let quoted = format!(" \"{}\";a=1", UUID.to_uppercase());
    assert!(service.witness.send(request("/uuid", &quoted, ""), &service.router).await.is_replay());
    let without = post("/any").header("x-user", PRINCIPAL);
    assert_eq!(service.witness.send(without, &service.router).await.text(), "IdempotencyKey(none)");
    // What the store holds.
    let shown = service.witness.shown();
    service.probe.store.rewrite(|record| shown.add(format!("{record:?}")));
    service.probe.store.rewrite(|record| shown.add(String::from_utf8_lossy(record).into_owned()));
    service.assert_nothing_leaked();
}

#[tokio::test]
async fn no_refusal_leaks_anything() {
    let service = Service::on(MemoryStore::new());
    let send = async |ask: Ask| service.witness.send(ask, &service.router).await.problem().1;
    let mut codes = BTreeSet::new();
    for other in [TEXT, &format!("{UUID}{UUID}"), &format!("\"{UUID}"), &format!("{UUID}\u{e9}")] {
        codes.insert(send(request("/uuid", other, "")).await);
    }
    for other in [&TEXT.repeat(20), &format!("\"{TEXT}"), &format!("{TEXT}\u{e9}")] {
        codes.insert(send(request("/any", other, "")).await);
    }
    codes.insert(send(request("/any", TEXT, "").key(TEXT)).await);
    codes.insert(send(request("/any", TEXT, "").header("x-idempotency-key", UUID)).await);
    codes.insert(send(post("/uuid").header("x-user", PRINCIPAL)).await);
    codes.insert(service.twice("/uuid", UUID, ["", "other"]).await);
    codes.insert(service.twice("/any", TEXT, ["unknown", "unknown"]).await);
    codes.insert(service.twice("/derived", TEXT, ["large", "large"]).await);
    let running = request("/derived", UUID, "waits").spawn(&service.router);
    service.gate.arrived.reaches(1).await;
    codes.insert(send(request("/derived", UUID, "waits")).await);
    service.gate.open(1);
    service.witness.notes(running.await.unwrap());
    service.probe.claim.always(Fault::Fails);
    codes.insert(send(request("/any", TEXT, "")).await);

    let every_code = [
        "conflicting_keys",
        "invalid_key",
        "key_reused",
        "missing_key",
        "outcome_unknown",
        "request_in_progress",
        "response_not_stored",
        "store_unavailable",
    ];
    assert!(codes.iter().eq(every_code), "{codes:?}");
    service.witness.assert_logged("idempotent request refused");
    service.witness.assert_logged("idempotency store unavailable");
    service.assert_nothing_leaked();
}

#[tokio::test]
async fn a_duplicate_that_takes_over_or_waits_leaks_nothing() {
    for (path, key) in [("/uuid", UUID), ("/any", TEXT)] {
        let service = Service::on(MemoryStore::new());
        let spawn = |body| request(path, key, body).spawn(&service.router);
        for (round, body) in ["fails at the gate", "waits"].into_iter().enumerate() {
            let arrived = service.gate.arrived.get();
            let first = spawn(body);
            service.gate.arrived.reaches(arrived + 1).await;
            let duplicate = spawn(body);
            service.probe.wait.begun.reaches(round + 1).await;
            service.gate.open(2 - round);
            assert!(!service.witness.notes(first.await.unwrap()).is_replay());
            let duplicate = service.witness.notes(duplicate.await.unwrap());
            assert_eq!(duplicate.is_replay(), body == "waits");
        }
        assert_eq!(service.gate.arrived.get(), 3, "two failures, of which one took over");
        service.assert_nothing_leaked();
    }
}

#[tokio::test]
async fn a_lost_claim_leaks_nothing() {
    for (path, key) in KEYS {
        let service = Service::on(Leased::default());
        let loser = request(path, key, "waits").spawn(&service.router);
        service.gate.arrived.reaches(1).await;
        service.probe.store.lapse();
        service.gate.open(1);
        assert!(!service.witness.notes(loser.await.unwrap()).is_replay());
        service.witness.assert_logged("claim was lost before its response was stored");
        service.assert_nothing_leaked();
    }
}

/// The clock is virtual: a lease passes when everybody waits.
#[tokio::test(start_paused = true)]
async fn a_failing_store_leaks_nothing() {
    for (path, key) in KEYS {
        let service = Service::on(Leased::default());
        let send =
            async |body| service.witness.send(request(path, key, body), &service.router).await;
        service.probe.renew.next([Fault::Fails, Fault::Hangs]);
        service.probe.release.next([Fault::Fails]);
        service.probe.complete.always(Fault::Fails);
        assert_eq!(send("fails").await.status, 502);
        service.idempotency.drain().await;
        assert_eq!(send("sleeps").await.status, 200);
        service.idempotency.drain().await;
        service.witness.assert_logged("releasing an idempotency key failed");
        service.witness.assert_logged("storing a response failed");
        service.witness.assert_logged("a response could not be stored");

        service.probe.complete.always(Fault::Works);
        assert_eq!(send("").await.status, 200);
        service.probe.store.rewrite(|record| record[2] += 1);
        assert_eq!(send("").await.problem().1, "store_unavailable");
        service.probe.store.rewrite(|record| record[2] -= 1);
        service.probe.store.rewrite(|record| *record.last_mut().unwrap() ^= 1);
        assert_eq!(send("").await.problem().1, "outcome_unknown");
        service.probe.claim.always(Fault::Hangs);
        assert_eq!(send("").await.problem().1, "store_unavailable");
        service.idempotency.drain().await;
        for text in ["the format of another release", "is corrupt", "store unavailable"] {
            service.witness.assert_logged(text);
        }
        service.assert_nothing_leaked();
    }
}

#[tokio::test]
async fn an_eviction_leaks_nothing() {
    let service = Service::on(MemoryStore::builder().max_bytes(64 << 10).build());
    let send = async |path, key: &str| {
        service.witness.send(request(path, key, ""), &service.router).await.is_replay()
    };
    assert!(!send("/uuid", UUID).await && !send("/any", TEXT).await);
    while service.probe.store.evicted() < 2 {
        send("/uuid", &fresh_key()).await;
    }
    service.witness.assert_logged("evicted before their ttl");
    service.assert_nothing_leaked();
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn redis_and_its_client_are_told_no_secret() {
    let redis = test_servers::Redis::start();
    let service = Service::on(idempotent_axum::RedisStore::connect(redis.url()).await.unwrap());
    service.run_and_replay().await;
    let keys = redis.cli(&["KEYS", "*"]);
    assert_eq!(keys.lines().count(), 3, "{keys}");
    service.witness.shown().add(keys);
    service.assert_nothing_leaked();
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn postgres_and_its_client_are_told_no_secret() {
    let postgres = test_servers::Postgres::start();
    let store = idempotent_axum::PostgresStore::connect(&postgres.url()).await.unwrap();
    store.migrate().await.unwrap();
    let service = Service::on(store);
    service.run_and_replay().await;
    let rows = postgres.execute("SELECT * FROM idempotency_keys");
    assert_eq!(rows.lines().count(), 3, "{rows}");
    service.witness.shown().add(rows);
    service.assert_nothing_leaked();
}

#[tokio::test]
async fn idempotency_key_never_shows_the_key_in_debug() {
    #[idempotent]
    async fn handler(key: IdempotencyKey) -> String {
        format!("{key:?}")
    }
    let app = Router::new().route("/debug", route(handler));
    let key = fresh_key();
    let answer = post("/debug").key(&key).send(&app).await;
    assert_eq!(answer.text(), "IdempotencyKey(set)");
    assert_eq!(post("/debug").send(&app).await.text(), "IdempotencyKey(none)");
}
