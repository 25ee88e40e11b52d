//! Callers that leave: everything inside the boundary continues.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    middleware::{Next, from_fn, from_fn_with_state, map_response},
    response::Response,
    routing::post as route,
};
use idempotent_axum::{Idempotency, MemoryStore, OnStoreError, RunBoundary, idempotent};
use idempotent_test_support::{
    Counter, Events, Fault, Gate, Leased, Server, count_ends, frames, fresh_key, is_pending, post,
};
use tokio::runtime::Builder;
use tracing::Instrument as _;

use super::{App, Service, first, replay, routes, service, service_of};

/// Counts the requests that finish inside the boundary.
async fn commit(State(commits): State<Counter>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    tokio::task::yield_now().await;
    commits.add();
    response
}

fn committing() -> (Service, Counter) {
    let commits = Counter::default();
    let layer = from_fn_with_state(commits.clone(), commit);
    (service(routes().layer(layer).layer(RunBoundary::new())), commits)
}

impl<S> Service<S> {
    /// A caller of `/held` that leaves while the handler is at its gate.
    async fn leave(&self) {
        let arrived = self.app.gate.arrived.get();
        let caller = self.ask("/held").spawn(&self.router);
        self.app.gate.arrived.reaches(arrived + 1).await;
        caller.abort();
        assert!(caller.await.is_err_and(|error| error.is_cancelled()));
    }
}

#[tokio::test]
async fn a_caller_that_leaves_does_not_keep_its_layers_from_going_on() {
    let (service, commits) = committing();
    service.leave().await;
    assert!(is_pending(pin!(service.idempotency.drain())).await, "it runs in a task of its own");
    service.app.gate.open(1);
    service.idempotency.drain().await;
    assert_eq!(commits.get(), 1);
    assert_eq!(service.send("/held").await, replay(201, "run 1"));
}

#[tokio::test]
async fn without_a_boundary_the_layers_of_a_caller_that_leaves_end_with_it() {
    let commits = Counter::default();
    let service = service(routes().layer(from_fn_with_state(commits.clone(), commit)));
    service.leave().await;
    service.app.gate.open(1);
    service.idempotency.drain().await;
    assert_eq!(commits.get(), 0);
    assert_eq!(service.send("/held").await, replay(201, "run 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_cut_off_gets_the_one_response_when_it_retries() {
    let commits = Counter::default();
    let ended = Counter::default();
    let count = ended.clone();
    let service = service(
        routes()
            .layer(from_fn_with_state(commits.clone(), commit))
            .layer(RunBoundary::new())
            .layer(from_fn(move |request, next| count_ends(count.clone(), request, next))),
    );
    let server = Server::start(service.router.clone()).await;
    let client = server.open("/held", &service.key, "rent").await;
    service.app.gate.arrived.reaches(1).await;
    drop(client);
    ended.reaches(1).await;
    let early = server.open("/held", &service.key, "rent").await;
    service.probe.wait.begun.reaches(1).await;
    service.app.gate.open(1);
    for retry in [early.reply().await.unwrap(), server.post("/held", &service.key, "rent").await] {
        assert_eq!((retry.status.as_u16(), retry.is_replay()), (201, true));
    }
    // One is the run's; of the two retries the layer saw a copy.
    assert_eq!((service.app.runs.count(), commits.get()), (1, 3));
}

#[tokio::test]
async fn a_caller_that_leaves_before_the_claim_leaves_nothing_behind() {
    let (service, commits) = committing();
    let claim = service.probe.claim.hold();
    let caller = service.ask("/pay").spawn(&service.router);
    claim.arrived.reaches(1).await;
    caller.abort();
    assert!(caller.await.is_err());
    claim.open_for_good();
    service.idempotency.drain().await;
    assert_eq!((service.app.runs.count(), commits.get()), (0, 0));
    assert_eq!(service.send("/pay").await, first(201, "run 1"));
}

#[tokio::test]
async fn a_caller_without_a_key_that_leaves_ends_its_handler() {
    let (service, commits) = committing();
    let caller = post("/held").spawn(&service.router);
    service.app.gate.arrived.reaches(1).await;
    caller.abort();
    assert!(caller.await.is_err());
    assert!(!is_pending(pin!(service.idempotency.drain())).await, "nothing goes on");
    service.app.gate.open(1);
    assert_eq!(post("/held").send(&service.router).await.text(), "run 1");
    assert_eq!(commits.get(), 1);
}

#[tokio::test]
async fn a_caller_that_leaves_while_the_response_is_stored_has_it_stored() {
    let (service, _) = committing();
    let complete = service.probe.complete.hold();
    let caller = service.ask("/pay").spawn(&service.router);
    complete.arrived.reaches(1).await;
    caller.abort();
    assert!(caller.await.is_err());
    complete.open(1);
    service.idempotency.drain().await;
    assert_eq!(service.send("/pay").await, replay(201, "run 1"));
    assert_eq!(service.app.runs.count(), 1);
}

#[tokio::test]
async fn a_caller_that_leaves_while_the_body_is_read_has_it_stored() {
    let (sender, body) = frames();
    let body = Arc::new(Mutex::new(Some(body)));
    let layer = map_response(move |response: Response| {
        let body = body.lock().expect("no panic").take();
        async move { body.map_or(response, Response::new) }
    });
    let service = service(routes().layer(layer).layer(RunBoundary::new()));
    sender.data("half ");
    let caller = service.ask("/pay").spawn(&service.router);
    service.probe.claim.ended.reaches(1).await;
    while service.app.runs.count() == 0 {
        tokio::task::yield_now().await;
    }
    caller.abort();
    assert!(caller.await.is_err());
    sender.data("and half");
    drop(sender);
    service.idempotency.drain().await;
    assert_eq!(service.send("/pay").await, replay(200, "half and half"));
}

#[tokio::test]
async fn the_callers_span_stays_current() {
    #[idempotent]
    async fn traced(State(app): State<App>) {
        app.gate.pass().await;
        tracing::info!("after the hand-over");
        let _ = app.runs.next();
    }

    async fn in_span(request: Request, next: Next) -> Response {
        next.run(request).instrument(tracing::info_span!("caller")).await
    }

    let (events, _guard) = Events::of_thread();
    let routes = axum::Router::new().route("/held", route(traced));
    let service = service(routes.layer(RunBoundary::new()).layer(from_fn(in_span)));
    service.leave().await;
    service.app.gate.open(1);
    service.idempotency.drain().await;
    let all = events.all();
    let event = all.iter().find(|event| event.message == "after the hand-over").unwrap();
    assert_eq!(event.spans, ["caller", "idempotency"]);
}

#[tokio::test]
async fn runs_inside_a_boundary_count_among_those_that_have_outlived_their_callers() {
    let app = App::default();
    let idempotency = Idempotency::new(MemoryStore::new()).max_detached_runs(1);
    let routes = routes().layer(RunBoundary::new()).layer(idempotency.clone());
    let service = service_of(app.clone(), MemoryStore::new(), routes);
    // The settings of the inner layer count, outside of the boundary as well as inside.
    service.leave().await;
    let refused = post("/pay").key(fresh_key()).send(&service.router).await;
    assert_eq!(refused.problem(), (503, "too_many_runs".to_owned()));
    app.gate.open(1);
    idempotency.drain().await;
    assert_eq!(post("/pay").key(fresh_key()).send(&service.router).await.status, 201);
}

#[tokio::test]
async fn an_unprotected_run_goes_on_as_well() {
    let (probe, app, commits) = (
        idempotent_test_support::Probe::<MemoryStore>::default(),
        App::default(),
        Counter::default(),
    );
    probe.claim.always(Fault::Fails);
    let idempotency = Idempotency::new(probe.clone()).on_store_error(OnStoreError::Execute);
    let router = routes()
        .layer(from_fn_with_state(commits.clone(), commit))
        .layer(RunBoundary::new())
        .layer(idempotency.clone())
        .with_state(app.clone());
    let service = Service { app, probe, idempotency, router, key: fresh_key() };
    service.leave().await;
    assert!(is_pending(pin!(service.idempotency.drain())).await, "it runs in a task of its own");
    service.app.gate.open(1);
    service.idempotency.drain().await;
    assert_eq!((service.app.runs.count(), commits.get()), (1, 1));
    // Nothing was stored: there was no claim.
    assert_eq!(service.send("/pay").await, first(201, "run 2"));
    assert_eq!(service.probe.complete.begun.get(), 0);
}

#[test]
fn a_run_that_ends_with_its_runtime_frees_its_key() {
    let kept = Arc::<Mutex<Vec<_>>>::default();
    let extensions = Arc::clone(&kept);
    // A copy of the request's extensions outlives it.
    let keep = from_fn(move |request: Request, next: Next| {
        extensions.lock().expect("no panic").push(request.extensions().clone());
        next.run(request)
    });
    let mut service = service(routes());
    // Without the probe, which needs a runtime.
    service.router = routes()
        .layer(keep)
        .layer(RunBoundary::new())
        .layer(Idempotency::new(MemoryStore::new()))
        .with_state(service.app.clone());
    let runtime = || Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for is_detached in [false, true] {
        let first = runtime();
        first.block_on(async {
            if is_detached {
                service.leave().await;
            } else {
                let _running = service.ask("/held").spawn(&service.router);
                service.app.gate.arrived.reaches(1).await;
            }
        });
        drop(first);
        assert_eq!(service.app.gate.arrived.get(), 1 + usize::from(is_detached));
    }
    service.app.gate.open_for_good();
    assert_eq!(runtime().block_on(service.send("/held")), first(201, "run 1"));
    assert!(kept.lock().unwrap().len() >= 3);
}

#[tokio::test]
async fn a_claim_inside_a_boundary_is_renewed_and_lost_as_without() {
    let service = super::service_on(Leased::default(), routes().layer(RunBoundary::new()));
    service.leave().await;
    service.probe.store.lapse();
    service.app.gate.open(2);
    service.idempotency.drain().await;
    // The key was free, so its response was stored without another run.
    assert_eq!(service.send("/held").await, replay(201, "run 1"));
}

/// The clock is virtual.
#[tokio::test(start_paused = true)]
async fn a_run_that_takes_longer_than_its_lease_keeps_its_claim() {
    let service = super::service_on(Leased::default(), routes().layer(RunBoundary::new()));
    let caller = service.ask("/held").spawn(&service.router);
    service.app.gate.arrived.reaches(1).await;
    tokio::time::sleep(Duration::from_secs(35)).await;
    assert!(service.probe.renew.ended.get() >= 3, "at a third of 30 seconds");
    service.app.gate.open(1);
    assert_eq!(caller.await.unwrap().status, 201);
}

/// The gate is in a layer inside the boundary.
#[tokio::test]
async fn a_caller_that_leaves_while_a_layer_works_after_the_handler_leaves_it_working() {
    let gate = Gate::default();
    let layer = from_fn({
        let gate = gate.clone();
        move |request, next: Next| {
            let gate = gate.clone();
            async move {
                let response = next.run(request).await;
                gate.pass().await;
                response
            }
        }
    });
    let service = service(routes().layer(layer).layer(RunBoundary::new()));
    let caller = service.ask("/pay").spawn(&service.router);
    gate.arrived.reaches(1).await;
    caller.abort();
    assert!(caller.await.is_err());
    // Nothing is stored before the layer has done its work.
    assert_eq!(service.probe.complete.begun.get(), 0);
    gate.open(2);
    service.idempotency.drain().await;
    assert_eq!(service.send("/pay").await, replay(201, "run 1"));
}
