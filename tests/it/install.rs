//! `Idempotency::install`, and the warning about a handler that misses the store that the process
//! has set up. Each test has its own process.

use axum::{
    Json, Router,
    extract::State,
    http::Method,
    routing::{any, get, post as route},
};
use idempotent_axum::{Idempotency, MemoryStore, Store, idempotent};
use idempotent_test_support::{Events, Leased, Logged, Probe, Runs, alone, ask, fresh_key, post};
use tracing::Level;

#[idempotent]
async fn pay(State(runs): State<Runs>, _body: String) -> String {
    runs.next()
}

#[idempotent]
async fn order(State(runs): State<Runs>, Json(()): Json<()>) -> String {
    runs.next()
}

fn routes() -> Router<Runs> {
    Router::new()
        .route("/pay", route(pay))
        .route("/orders/{id}", route(order).put(order))
        .fallback(pay)
}

fn router() -> Router {
    routes().with_state(Runs::default())
}

/// Asserts that the second of two equal requests gets a replay.
async fn assert_replayed(router: &Router, path: &str) {
    let key = fresh_key();
    let send = async || post(path).key(&key).json("null").send(router).await;
    assert_eq!((send().await.is_replay(), send().await.is_replay()), (false, true), "{path}");
}

fn is_debugged_with(idempotency: &Idempotency, max_response_bytes: usize) -> bool {
    format!("{idempotency:?}").contains(&format!("max_response_bytes: {max_response_bytes},"))
}

#[test]
fn handlers_without_a_layer_use_what_is_installed() {
    alone(async || {
        let probe = Probe::on(Leased::default());
        let installed = Idempotency::new(probe.clone()).docs_url("/docs").max_response_bytes(1234);
        installed.install().unwrap();
        let router = router();
        assert_replayed(&router, "/pay").await;
        assert_eq!(probe.claim.begun.get(), 2);
        assert_replayed(&self::router(), "/orders/7").await;
        assert_eq!(probe.claim.begun.get(), 4);
        // With its settings: the default is a handle to them.
        let refused = post("/pay").key("bad").send(&router).await;
        assert_eq!(refused.json()["type"], "/docs#invalid_key");
        assert!(is_debugged_with(&Idempotency::default(), 1234));
        Idempotency::default().drain().await;
    });
}

#[test]
fn a_layer_wins_over_what_is_installed() {
    alone(async || {
        let [installed, layered] = [(); 2].map(|()| Probe::on(Leased::default()));
        Idempotency::new(installed.clone()).install().unwrap();
        let router = router().layer(Idempotency::new(layered.clone()));
        assert_replayed(&router, "/pay").await;
        assert_eq!((installed.claim.begun.get(), layered.claim.begun.get()), (0, 2));
    });
}

#[test]
fn a_second_install_is_an_error_and_changes_nothing() {
    alone(async || {
        let [first, second] = [(); 2].map(|()| Probe::on(Leased::default()));
        Idempotency::new(first.clone()).install().unwrap();
        let error = Idempotency::new(second.clone()).install().unwrap_err();
        assert!(error.to_string().contains("before the first request"), "{error}");
        assert_replayed(&router(), "/pay").await;
        assert_eq!((first.claim.begun.get(), second.claim.begun.get()), (2, 0));
    });
}

#[test]
fn install_after_a_request_has_used_the_built_in_one_is_an_error() {
    alone(async || {
        let router = router();
        let key = fresh_key();
        let send = async || post("/pay").key(&key).send(&router).await.is_replay();
        assert!(!send().await);
        let probe = Probe::on(Leased::default());
        Idempotency::new(probe.clone()).install().unwrap_err();
        // What was stored is still there.
        assert!(send().await);
        assert_eq!(probe.claim.begun.get(), 0);
    });
}

#[test]
fn install_after_the_default_handle_was_taken_is_an_error() {
    alone(async || {
        let default = Idempotency::default();
        Idempotency::new(MemoryStore::new()).max_response_bytes(1234).install().unwrap_err();
        assert!(!is_debugged_with(&Idempotency::default(), 1234));
        drop(default);
    });
}

#[test]
fn a_request_without_a_key_and_one_under_a_layer_use_nothing_of_the_process() {
    alone(async || {
        let probe = Probe::on(Leased::default());
        assert_eq!(post("/pay").send(&router()).await.status, 200);
        assert_replayed(&router().layer(Idempotency::new(MemoryStore::new())), "/pay").await;
        Idempotency::new(probe.clone()).install().unwrap();
        assert_replayed(&router(), "/pay").await;
        assert_eq!(probe.claim.begun.get(), 2);
    });
}

#[test]
fn an_install_warns_of_settings_that_do_not_go_together() {
    alone(async || {
        let (events, _guard) = Events::of_thread();
        let short = std::time::Duration::from_secs(1);
        Idempotency::new(Leased::default()).lease(short).install().unwrap();
        let [warning] = &events.at(Level::WARN)[..] else { panic!("one warning") };
        assert!(warning.contains("`lease`"), "{warning}");
    });
}

/// The fields of all warnings so far, which name their operations.
fn warned(events: &Events) -> Vec<String> {
    let is_warning = |event: &Logged| event.level == Level::WARN;
    events
        .all()
        .into_iter()
        .filter(is_warning)
        .map(|Logged { message, fields, .. }| {
            assert!(message.contains("memory of this process"), "{message}");
            assert!(message.contains("after the route"), "{message}");
            fields.concat()
        })
        .collect()
}

/// A layer put on before the routes covers none of them.
fn missed(store: impl Store) -> Router {
    Router::new().layer(Idempotency::new(store)).merge(routes()).with_state(Runs::default())
}

#[test]
fn a_store_that_handlers_miss_is_warned_of_once_for_each_route() {
    alone(async || {
        let (events, _guard) = Events::of_thread();
        let probe = Probe::on(Leased::default());
        let router = missed(probe.clone());
        assert_eq!(post("/pay").send(&router).await.status, 200);
        assert_eq!(warned(&events), [""; 0], "without a key nothing is stored");

        assert_replayed(&router, "/pay").await;
        assert_eq!(warned(&events), ["operation=\"POST /pay\""]);
        assert_replayed(&router, "/pay").await;
        assert_eq!(warned(&events).len(), 1);

        for path in ["/orders/secret", "/orders/other"] {
            assert_replayed(&router, path).await;
        }
        assert_eq!(warned(&events)[1..], ["operation=\"POST /orders/{id}\""]);
        let put = ask(Method::PUT, "/orders/secret").key(fresh_key()).json("null");
        assert_eq!(put.send(&router).await.status, 200);
        assert_eq!(warned(&events)[2..], ["operation=\"PUT /orders/{id}\""]);

        // Without a template, never the path.
        for path in ["/secret/1", "/secret/2"] {
            assert_replayed(&router, path).await;
        }
        assert_eq!(warned(&events)[3..], ["operation=\"other\""]);
        // Another router of the process has the same routes.
        assert_replayed(&missed(Leased::default()), "/pay").await;
        assert_eq!(warned(&events).len(), 4);
        assert_eq!(probe.claim.begun.get(), 0);
    });
}

#[test]
fn a_handler_named_by_its_scope_is_warned_of_by_that_name() {
    #[idempotent(scope = "charge-card")]
    async fn charge(State(runs): State<Runs>) -> String {
        runs.next()
    }
    alone(async || {
        let (events, _guard) = Events::of_thread();
        let _shared = Idempotency::new(Leased::default());
        let app = Router::new().route("/a", get(charge)).route("/b", any(charge));
        let app = app.with_state(Runs::default());
        for path in ["/a", "/b"] {
            ask(Method::GET, path).key(fresh_key()).send(&app).await;
        }
        assert_eq!(warned(&events), ["operation=\"charge-card\""]);
    });
}

#[test]
fn a_process_with_nothing_but_memory_is_warned_of_nothing() {
    alone(async || {
        let (events, _guard) = Events::of_thread();
        assert_replayed(&missed(MemoryStore::new()), "/pay").await;
        assert_replayed(&missed(std::sync::Arc::new(MemoryStore::new())), "/orders/7").await;
        assert_replayed(&router(), "/secret").await;
        assert_eq!(warned(&events), [""; 0]);
    });
}

#[test]
fn handlers_that_use_a_layer_or_what_is_installed_miss_nothing() {
    alone(async || {
        let (events, _guard) = Events::of_thread();
        Idempotency::new(MemoryStore::new()).install().unwrap();
        assert_replayed(&router(), "/pay").await;
        assert_replayed(&router().layer(Idempotency::new(Leased::default())), "/pay").await;
        assert_replayed(&router(), "/orders/7").await;
        assert_replayed(&router().layer(Idempotency::new(MemoryStore::new())), "/secret").await;
        assert_eq!(warned(&events), [""; 0]);
    });
}

#[test]
fn methods_that_a_client_makes_up_are_one_route() {
    alone(async || {
        let (events, _guard) = Events::of_thread();
        let app = Router::new().route("/any", any(pay)).with_state(Runs::default());
        let _shared = Idempotency::new(Leased::default());
        for number in 0..20 {
            let method = Method::from_bytes(format!("X{number}").as_bytes()).expect("a method");
            ask(method, "/any").key(fresh_key()).send(&app).await;
        }
        assert_eq!(warned(&events).len(), 1, "{:?}", warned(&events));
    });
}
