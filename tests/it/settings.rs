//! Settings, and which of them a handler gets: those of the innermost layer, or those of the
//! process.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Request, StatusCode},
    routing::post as route,
};
use http_body_util::BodyExt as _;
use idempotent_axum::{Idempotency, IdempotencyService, MemoryStore, idempotent};
use idempotent_test_support::{Events, Fault, Leased, Probe, Runs, fresh_key, post};
use tower::{Layer as _, Service, ServiceExt as _};
use tracing::Level;

use crate::service::{App, Client, Seen, on_own_store, routes, service_on};

#[test]
#[should_panic(expected = "`lease` must be longer than zero")]
fn a_lease_of_zero_is_refused() {
    let _ = Idempotency::new(Leased::default()).lease(Duration::ZERO);
}

#[test]
#[should_panic(expected = "`store_timeout` must be longer than zero")]
fn a_store_timeout_of_zero_is_refused() {
    let _ = Idempotency::new(Leased::default()).store_timeout(Duration::ZERO);
}

/// Work in the background ends, if at all, with the lease; a panic there would lose it.
#[tokio::test(start_paused = true)]
async fn durations_without_end_have_no_deadline() {
    let service = service_on(Leased::default(), |settings| {
        let settings = settings.lease(Duration::MAX).store_timeout(Duration::MAX);
        settings.max_capture_time(Duration::MAX).max_response_bytes(usize::MAX)
    });
    let stored = service.client();
    service.probe.complete.next([Fault::Fails; 5]);
    assert_eq!(stored.send().await, Seen::run(0));
    service.idempotency.drain().await;
    assert_eq!(service.probe.complete.begun.get(), 6);
    assert_eq!(stored.send().await, Seen::replay(0));

    let failed = Client { body: "fails", ..service.client() };
    service.probe.release.next([Fault::Fails; 5]);
    assert_eq!(failed.request("/pay", "").send(&service.router).await.status, 500);
    service.idempotency.drain().await;
    assert_eq!(service.probe.release.begun.get(), 6);

    // Its lease is as good as never renewed, and its duplicate waits no longer than its `wait`.
    let slow = service.client();
    assert_eq!(slow.request("/slow", "").send(&service.router).await.status, 200);
    assert!(slow.request("/slow", "").send(&service.router).await.is_replay());
    let running = service.client();
    let first = running.send_to_gate("a");
    service.app.gates[0].arrived.reaches(1).await;
    let duplicate = running.send_to_gate("");
    service.probe.wait.begun.reaches(1).await;
    service.app.gates[0].open(1);
    let run = service.app.runs.get() - 1;
    assert_eq!(first.await.unwrap(), Seen::run(run));
    assert_eq!(duplicate.await.unwrap(), Seen::replay(run));
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

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_store_timeout_that_the_server_never_lets_pass_is_warned_of_once() {
    let warnings = |statement_timeout, store_timeout| {
        let (events, _guard) = Events::of_thread();
        let pool = sqlx::PgPool::connect_lazy("postgres://localhost").unwrap();
        let store = idempotent_axum::PostgresStore::builder()
            .statement_timeout(Duration::from_secs(statement_timeout))
            .build(pool)
            .unwrap();
        let settings = Idempotency::new(store).store_timeout(Duration::from_secs(store_timeout));
        for _ in 0..2 {
            let _: Router<App> = routes().layer(settings.clone());
        }
        events.at(Level::WARN)
    };
    assert_eq!(warnings(3, 3), [""; 0]);
    assert_eq!(warnings(0, 3), [""; 0], "none that the store knows of");
    let [warning] = &warnings(2, 3)[..] else { panic!("one warning, however many routes") };
    assert!(warning.contains("`store_timeout` is longer than the `statement_timeout`"));
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

/// A service of requests and responses that Axum does not know.
#[derive(Clone)]
struct Gateway {
    routes: Router,
    is_ready: bool,
}

impl Service<Request<&'static str>> for Gateway {
    type Response = (u16, String);
    type Error = &'static str;
    type Future = Pin<Box<dyn Future<Output = Result<(u16, String), &'static str>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        Poll::Ready(if self.is_ready { Ok(()) } else { Err("not ready") })
    }

    fn call(&mut self, request: Request<&'static str>) -> Self::Future {
        let response = self.routes.clone().oneshot(request.map(Body::from));
        Box::pin(async move {
            let response = response.await.unwrap_or_else(|never| match never {});
            if response.status() == StatusCode::NOT_FOUND {
                return Err("no such route");
            }
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.expect("a whole body").to_bytes();
            Ok((status, String::from_utf8(body.to_vec()).expect("text")))
        })
    }
}

#[tokio::test]
async fn the_layer_is_one_for_any_service_of_requests() {
    let probe = Probe::<MemoryStore>::default();
    let routes = routes().with_state(App::default());
    let idempotency = Idempotency::new(probe.clone());
    let gateway = |is_ready| idempotency.layer(Gateway { routes: routes.clone(), is_ready });
    let service: IdempotencyService<Gateway> = gateway(true);
    let key = fresh_key();
    let request = |path: &str| {
        let request = Request::post(path).header("idempotency-key", &key);
        request.body("rent").expect("a valid request")
    };
    for claims in 1..3 {
        let answer = service.clone().oneshot(request("/pay")).await;
        assert_eq!(answer, Ok((200, "run 0".to_owned())));
        assert_eq!(probe.claim.begun.get(), claims);
    }
    // Its errors are the service's.
    assert_eq!(service.oneshot(request("/nowhere")).await, Err("no such route"));
    assert_eq!(gateway(false).oneshot(request("/pay")).await, Err("not ready"));
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
