//! Settings, and which of them a handler gets: those of the innermost layer, or those of the
//! process.

use std::time::Duration;

use axum::{Router, extract::State, routing::post as route};
use idempotent_axum::{Idempotency, MemoryStore, idempotent};
use idempotent_test_support::{Events, Leased, Probe, Runs, fresh_key, post};
use tracing::Level;

use crate::service::{App, Seen, on_own_store, routes};

#[test]
#[should_panic(expected = "`lease` must be longer than zero")]
fn a_lease_of_zero_is_refused() {
    let _ = Idempotency::new(Leased::default()).lease(Duration::ZERO);
}

#[test]
fn a_lease_under_three_timeouts_is_warned_of_once() {
    let warnings = |lease, timeout, layers| {
        let (events, _guard) = Events::of_thread();
        let settings = Idempotency::new(Leased::default()).lease(Duration::from_secs(lease));
        let settings = settings.store_timeout(Duration::from_secs(timeout));
        for _ in 0..layers {
            // A layer is applied to every route.
            let _: Router<App> = routes().layer(settings.clone());
        }
        events.at(Level::WARN)
    };
    assert_eq!(warnings(6, 2, 2), [""; 0]);
    let [warning] = &warnings(5, 2, 2)[..] else { panic!("one warning, however many routes") };
    assert!(warning.contains("`lease`") && warning.contains("three times `store_timeout`"));
    assert_eq!(warnings(5, 2, 0), [""; 0], "the order of the settings does not matter");
}

#[tokio::test]
async fn of_nested_layers_the_innermost_wins() {
    let [outer, inner]: [Probe<MemoryStore>; 2] = Default::default();
    let router = Router::new()
        .nest("/inner", routes().layer(Idempotency::new(inner.clone())))
        .merge(routes())
        .layer(Idempotency::new(outer.clone()))
        .with_state(App::default());
    let key = fresh_key();
    let send = async |path| Seen::from(post(path).key(&key).send(&router).await);
    assert_eq!(send("/inner/pay").await, Seen::run(0));
    assert_eq!((inner.claim.begun.get(), outer.claim.begun.get()), (1, 0));
    assert_eq!(send("/pay").await, Seen::run(1));
    assert_eq!((inner.claim.begun.get(), outer.claim.begun.get()), (1, 1));
}

#[idempotent]
async fn count(State(runs): State<Runs>) -> String {
    runs.next()
}

#[tokio::test]
async fn services_with_stores_of_their_own_do_not_meet() {
    let (one, _) = on_own_store(Router::new().route("/", route(count)));
    let (two, _) = on_own_store(Router::new().route("/", route(count)));
    let key = fresh_key();
    assert!(!post("/").key(&key).send(&one).await.is_replay());
    assert!(!post("/").key(&key).send(&two).await.is_replay());
    assert!(post("/").key(&key).send(&one).await.is_replay());
}

#[tokio::test]
async fn without_a_layer_all_routers_of_the_process_share_a_store() {
    let app = || Router::new().route("/shared", route(count)).with_state(Runs::default());
    let key = fresh_key();
    let first = post("/shared").key(&key).send(&app()).await;
    assert_eq!((first.text(), first.is_replay()), ("run 1", false));
    // `Idempotency::default()` is its handle.
    for app in [app(), app().layer(Idempotency::default())] {
        let retry = post("/shared").key(&key).send(&app).await;
        assert_eq!((retry.text(), retry.is_replay()), ("run 1", true));
    }
}
