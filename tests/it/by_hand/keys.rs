//! A key named by hand is the same as a request's: on every store it can be seen in each of its
//! states, and freed.

use std::{
    fmt::Display,
    time::{Duration, SystemTime},
};

use axum::{Router, extract::State, routing::post};
use http::{HeaderMap, StatusCode};
use idempotent_axum::{
    Forgotten, Idempotency, OperationState, Outcome, Store, StoredKind, idempotent,
};
use idempotent_test_support::{
    Answer, Counter, Fault, Gate, Leased, PATIENCE, Probe, chain, fresh_key, post as request,
};

const CLIENT: &str = "acme";
const ROUTE: &str = "POST /v1/orders/{id}";

#[derive(Clone, Default)]
struct Shop {
    runs: Counter,
    gate: Gate,
}

fn client(headers: &HeaderMap) -> String {
    headers.get("client").expect("it names its client").to_str().expect("in ASCII").to_owned()
}

#[idempotent(ttl = "7d", principal = client(&headers), format = "any", replay = "all")]
async fn order(State(shop): State<Shop>, headers: HeaderMap, body: String) -> (StatusCode, String) {
    let run = shop.runs.add() + 1;
    if body == "slow" {
        shop.gate.pass().await;
    }
    (StatusCode::CREATED, format!("run {run}"))
}

#[idempotent(scope = "refund")]
async fn refund(State(shop): State<Shop>) -> String {
    format!("run {}", shop.runs.add() + 1)
}

#[idempotent(scope = "unknown")]
async fn unknown() -> (Outcome, &'static str) {
    (Outcome::Unknown, "who knows")
}

#[idempotent(scope = "large")]
async fn large() -> String {
    "x".repeat(64 << 10)
}

struct Service {
    idempotency: Idempotency,
    app: Router,
    shop: Shop,
}

impl Service {
    fn on(store: impl Store) -> Self {
        let idempotency = Idempotency::new(store)
            .max_response_bytes(16 << 10)
            .store_timeout(Duration::from_secs(5));
        let shop = Shop::default();
        let orders = Router::new().route("/orders/{id}", post(order));
        let app = Router::new()
            .nest("/v1", orders)
            .route("/refund", post(refund))
            .route("/unknown", post(unknown))
            .route("/large", post(large))
            .layer(idempotency.clone())
            .with_state(shop.clone());
        Self { idempotency, app, shop }
    }

    async fn order(&self, key: &str, body: &'static str) -> Answer {
        let order = request("/v1/orders/7").header("client", CLIENT);
        order.key(key).body(body).send(&self.app).await
    }

    fn named(&self, key: impl Display) -> idempotent_axum::OperationKey {
        self.idempotency.operation(ROUTE).principal(CLIENT).key(key)
    }
}

/// Looks at a key in each of its states, and frees it.
async fn looks_and_frees(store: impl Store, has_leases: bool) {
    let service = Service::on(store);
    let Service { idempotency, app, shop } = &service;
    let text = fresh_key();
    let key = service.named(&text);
    assert_eq!(key.state().await.unwrap(), OperationState::Absent);
    assert_eq!(key.forget().await.unwrap(), Forgotten::Absent);

    let before = SystemTime::now();
    assert_eq!(service.order(&text, "").await.text(), "run 1");
    let OperationState::Stored { kind, expires_at } = key.state().await.unwrap() else {
        panic!("its response is stored")
    };
    assert_eq!(kind, StoredKind::Response { status: 201 });
    let week = Duration::from_secs(7 * 24 * 3600);
    let slack = Duration::from_secs(5) + PATIENCE;
    let expected = before + week - slack..before + week + slack;
    assert!(expected.contains(&expires_at), "{expires_at:?}");
    // No other key holds anything.
    let others = [
        idempotency.operation(ROUTE).principal("other").key(&text),
        idempotency.operation(ROUTE).key(&text),
        idempotency.operation("POST /v1/orders/7").principal(CLIENT).key(&text),
        service.named(fresh_key()),
    ];
    for other in others {
        assert_eq!(other.state().await.unwrap(), OperationState::Absent);
        assert_eq!(other.forget().await.unwrap(), Forgotten::Absent);
    }
    assert!(service.order(&text, "").await.is_replay());
    assert_eq!(key.forget().await.unwrap(), Forgotten::Freed);
    assert_eq!(key.state().await.unwrap(), OperationState::Absent);
    assert_eq!(service.order(&text, "").await.text(), "run 2");

    let text = fresh_key();
    let key = service.named(&text);
    let slow = request("/v1/orders/7").header("client", CLIENT).key(&text).body("slow").spawn(app);
    shop.gate.arrived.reaches(1).await;
    let OperationState::Running { lease_left } = key.state().await.unwrap() else {
        panic!("it is running")
    };
    assert_eq!(lease_left.is_some(), has_leases);
    let Forgotten::StillRunning { lease_left } = key.forget().await.unwrap() else {
        panic!("a running key is left alone")
    };
    assert_eq!(lease_left.is_some(), has_leases);
    assert_eq!(key.forget().even_if_running().await.unwrap(), Forgotten::Freed);
    // A retry runs alongside it, and the late one is answered with what the key holds.
    assert_eq!(service.order(&text, "slow, but another").await.text(), "run 4");
    shop.gate.open(1);
    let late = slow.await.unwrap();
    assert_eq!(late.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", late.text());
    assert!(service.order(&text, "slow, but another").await.is_replay());

    for (path, kind) in [("unknown", StoredKind::Unknown), ("large", StoredKind::NotStored)] {
        let text = fresh_key();
        request(&format!("/{path}")).key(&text).send(app).await;
        let state = idempotency.operation(path).key(&text).state().await.unwrap();
        assert!(
            matches!(state, OperationState::Stored { kind: it, .. } if it == kind),
            "{state:?}"
        );
    }
    idempotency.check().await.unwrap();
}

#[tokio::test]
async fn a_key_is_seen_and_freed_in_memory() {
    looks_and_frees(idempotent_axum::MemoryStore::new(), false).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_key_is_seen_and_freed_in_redis() {
    let redis = test_servers::Redis::start();
    let store = idempotent_axum::RedisStore::connect(redis.url()).await.unwrap();
    looks_and_frees(store, true).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_key_is_seen_and_freed_in_postgres() {
    let postgres = test_servers::Postgres::start();
    let store = idempotent_axum::PostgresStore::connect(postgres.url()).await.unwrap();
    store.migrate().await.unwrap();
    looks_and_frees(store, true).await;
}

#[tokio::test]
async fn a_key_is_read_as_the_header_is() {
    let service = Service::on(Leased::default());
    let (operation, app) = (|| service.idempotency.operation("refund"), &service.app);
    let lower = fresh_key();
    let upper = lower.to_uppercase();
    request("/refund").key(&upper).send(app).await;
    for same in
        [lower.clone(), upper.clone(), format!(" \"{upper}\"; a=1 "), format!("\"{lower}\"")]
    {
        assert_eq!(operation().key(&same).digest(), operation().key_exact(&lower).digest());
        assert_ne!(operation().key(&same).state().await.unwrap(), OperationState::Absent, "{same}");
    }
    assert_ne!(operation().key(&upper).digest(), operation().key_exact(&upper).digest());

    // Any text: quotes make a different key only if taken verbatim; half a quotation is not a header.
    service.order("order 7", "").await;
    for (text, is_it) in [("order 7", true), ("\"order 7\"", true), ("\"order 7", false)] {
        let state = service.named(text).state().await.unwrap();
        assert_eq!(state != OperationState::Absent, is_it, "{text}");
    }
    // Under `format = "any"` an upper-case UUID is a separate key.
    service.order(&upper, "").await;
    let exact = service.idempotency.operation(ROUTE).principal(CLIENT).key_exact(&upper);
    assert_ne!(exact.state().await.unwrap(), OperationState::Absent);
    assert_eq!(service.named(&upper).state().await.unwrap(), OperationState::Absent);
}

#[tokio::test]
async fn a_forget_is_sent_once_and_its_error_says_to_look_first() {
    let store = Probe::<Leased>::default();
    let service = Service::on(store.clone());
    for (fault, is_unknown) in [(Fault::FailsAfter, true), (Fault::NotSent, false)] {
        let text = fresh_key();
        service.order(&text, "").await;
        let key = service.named(&text);
        let before = store.forget.begun.get();
        store.forget.next([fault]);
        let error = key.forget().await.expect_err("the store fails");
        assert_eq!(chain(&error).contains("look at its state"), is_unknown, "{}", chain(&error));
        assert_eq!(store.forget.begun.get(), before + 1);
        assert_eq!(key.state().await.unwrap() == OperationState::Absent, is_unknown);
    }
}

#[tokio::test]
async fn nothing_of_a_key_by_hand_is_shown() {
    let service = Service::on(Leased::default());
    let operation = service.idempotency.operation("pay").principal("mrs-secret");
    let key = operation.clone().key("key-secret");
    let shown = format!("{operation:?} {key:?} {:?} {}", key.forget(), key.digest());
    assert!(!shown.contains("secret"), "{shown}");
    assert!(shown.contains(&key.digest().to_string()));
}
