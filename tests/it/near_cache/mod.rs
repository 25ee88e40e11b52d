//! The near cache: what this process has stored in a shared store, or has replayed once, it replays
//! again without asking the store, for as long as that is right.

mod forgetting;
mod lifetimes;
mod looks;
mod records;
#[cfg(all(feature = "postgres", feature = "redis"))]
mod servers;

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse as _, Response},
    routing::post as route,
};
use idempotent_axum::{
    Decision, Idempotency, OperationKey, Outcome, Replayed, Store, StoreVerb, idempotent,
};
use idempotent_test_support::{Answer, Gate, Leased, Probe, Runs, post};

const MAX_BYTES: usize = 8 << 20;

/// What instances of one service share.
#[derive(Clone, Default)]
struct App {
    runs: Runs,
    gate: Gate,
}

impl App {
    fn answer(&self, body: &str) -> Response {
        let run = self.runs.next();
        match body {
            "unknown" => (Outcome::Unknown, run).into_response(),
            "large" => "x".repeat(3 << 10).into_response(),
            "too large" => "x".repeat(5 << 10).into_response(),
            _ => run.into_response(),
        }
    }
}

/// Its copies are looked at before extraction.
#[idempotent(scope = "pay", wait = "1h")]
async fn pay(State(app): State<App>, body: String) -> Response {
    if body == "held" {
        app.gate.pass().await;
    }
    app.answer(&body)
}

#[idempotent(ttl = "90s")]
async fn short(State(app): State<App>, body: String) -> Response {
    app.answer(&body)
}

/// Its copies are looked at only before the claim: nothing is known of its last parameter.
#[idempotent]
async fn extracted(State(app): State<App>, _last: Option<axum::Json<()>>) -> Response {
    app.answer("")
}

/// One instance of a service.
struct Instance {
    idempotency: Idempotency,
    router: Router,
    told: Arc<Mutex<Vec<Decision>>>,
    calls: Arc<Mutex<Vec<StoreVerb>>>,
}

impl Instance {
    fn with(idempotency: Idempotency, app: &App) -> Self {
        let (told, calls) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (decisions, verbs) = (Arc::clone(&told), Arc::clone(&calls));
        let idempotency = idempotency.max_response_bytes(4 << 10).on_event(move |event| {
            decisions.lock().unwrap().extend(event.decision());
            verbs.lock().unwrap().extend(event.store_call().map(|call| call.verb));
        });
        let router = Router::new()
            .route("/pay", route(pay))
            .route("/short", route(short))
            .route("/extracted", route(extracted))
            .layer(idempotency.clone())
            .with_state(app.clone());
        Self { idempotency, router, told, calls }
    }

    fn on(store: impl Store, app: &App) -> Self {
        Self::with(Idempotency::new(store).near_cache(MAX_BYTES), app)
    }

    async fn send(&self, path: &str, key: &str, body: &'static str) -> Answer {
        post(path).key(key).body(body).send(&self.router).await
    }

    /// Where the replay of this request comes from, and its body.
    async fn replay(&self, path: &str, key: &str, body: &'static str) -> (Replayed, String) {
        self.told.lock().unwrap().clear();
        let answer = self.send(path, key, body).await;
        assert!(answer.is_replay(), "{answer:?}");
        let told = self.told.lock().unwrap().clone();
        let [Decision::Replayed(from)] = told[..] else { panic!("one replay: {told:?}") };
        (from, answer.text().to_owned())
    }

    /// The calls of the store since the last look.
    fn calls(&self) -> Vec<StoreVerb> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    fn key(&self, key: &str) -> OperationKey {
        self.idempotency.operation("pay").key(key)
    }
}

/// Two instances that share a store, whose calls the test makes fail.
fn two() -> (Probe<Leased>, Instance, Instance, App) {
    let (store, app) = (Probe::on(Leased::default()), App::default());
    let one = Instance::on(store.clone(), &app);
    let other = Instance::on(store.clone(), &app);
    (store, one, other, app)
}

fn near(body: &str) -> (Replayed, String) {
    (Replayed::Near, body.to_owned())
}

fn from_store(body: &str) -> (Replayed, String) {
    (Replayed::Store, body.to_owned())
}
