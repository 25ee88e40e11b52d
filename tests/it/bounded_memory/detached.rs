//! Runs that outlive their callers are bounded: past the bound nothing new starts, nothing that has
//! started is cancelled, and replays and duplicates are still served.

use axum::{Router, extract::State, routing::post as route};
use idempotent_axum::{Idempotency, MemoryStore, Store, idempotent};
use idempotent_test_support::{Events, Gate, Leased, Probe, fresh_key, post};
use tracing::Level;

#[idempotent]
async fn held(State(gate): State<Gate>, body: String) -> String {
    if body == "waits" {
        gate.pass().await;
    }
    body
}

fn app(store: impl Store, gate: &Gate) -> (Router, Idempotency) {
    let idempotency = Idempotency::new(store).max_detached_runs(2);
    let app = Router::new().route("/held", route(held)).layer(idempotency.clone());
    (app.with_state(gate.clone()), idempotency)
}

async fn past_max_detached_runs(store: impl Store) {
    let gate = Gate::default();
    let (app, idempotency) = app(store, &gate);
    let (events, _guard) = Events::of_thread();
    let stored = fresh_key();
    let send = async |key: &str| post("/held").key(key).body("at once").send(&app).await;
    assert_eq!(send(&stored).await.text(), "at once");

    let keys: Vec<_> = (0..2).map(|_| fresh_key()).collect();
    for (number, key) in keys.iter().enumerate() {
        let running = post("/held").key(key).body("waits").spawn(&app);
        gate.arrived.reaches(number + 1).await;
        running.abort();
        assert!(running.await.is_err_and(|error| error.is_cancelled()));
    }

    let fresh = fresh_key();
    let refused = send(&fresh).await;
    assert_eq!(refused.problem(), (503, "too_many_runs".to_owned()));
    assert!(refused.header("retry-after").is_some());
    // Replays and duplicates are still served.
    assert!(send(&stored).await.is_replay());
    let duplicate = post("/held").key(&keys[0]).body("waits").spawn(&app);

    assert_eq!(idempotency.drain_for(std::time::Duration::ZERO).await.runs, 2);
    let waiting_for = events.at(Level::INFO);
    assert!(waiting_for.iter().any(|line| line.contains("waiting for")), "{waiting_for:?}");

    gate.open(2);
    assert!(duplicate.await.expect("no panic").is_replay());
    idempotency.drain().await;
    // Nothing was cancelled, and the refused key is free.
    for key in &keys {
        assert!(post("/held").key(key).body("waits").send(&app).await.is_replay());
    }
    assert_eq!(send(&fresh).await.text(), "at once");
}

#[tokio::test]
async fn past_max_detached_runs_nothing_is_started_on_memory() {
    past_max_detached_runs(MemoryStore::new()).await;
}

#[tokio::test]
async fn past_max_detached_runs_nothing_is_started_on_a_shared_store() {
    past_max_detached_runs(Probe::on(Leased::default())).await;
}
