//! Time: a `MemoryStore` goes by tokio's clock, which a test can pause and advance.

use std::time::Duration;

use axum::{Router, extract::State, routing::post as route};
use idempotent_axum::{
    Idempotency, MemoryStore, idempotent,
    testing::{assert_executed, assert_replayed},
};
use idempotent_test_support::{Runs, fresh_key, post};
use tokio::time::{advance, sleep};

#[tokio::test(start_paused = true)]
async fn a_ttl_passes_as_the_clock_is_moved_on() {
    #[idempotent(ttl = "7d")]
    async fn pay(State(runs): State<Runs>) -> String {
        runs.next()
    }
    let store = MemoryStore::new();
    let app = Router::new().route("/", route(pay)).layer(Idempotency::new(store.clone()));
    let (app, key) = (app.with_state(Runs::default()), fresh_key());
    let send = async || post("/").key(&key).begin(&app).await;
    assert_executed(&send().await);
    advance(Duration::from_secs(24 * 7 * 3600) - Duration::from_secs(1)).await;
    assert_replayed(&send().await);
    // A replay does not extend it.
    advance(Duration::from_secs(1)).await;
    assert_executed(&send().await);
    assert_replayed(&send().await);

    // Nobody asks, yet the room is freed.
    assert_ne!(store.stored_bytes(), 0);
    advance(Duration::from_secs(24 * 7 * 3600)).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(store.stored_bytes(), 0);
}
