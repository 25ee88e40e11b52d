//! A run that ends with its runtime, or on a blocked thread: its claim is neither left behind nor
//! lost.

use std::{sync::mpsc, thread, time::Duration};

use axum::{Router, extract::State, routing::post as route};
use idempotent_axum::{Idempotency, MemoryStore, RedisStore, idempotent};
use idempotent_test_support::{Gate, Probe, fresh_key, post};
use test_servers::Redis;
use tokio::runtime::{Builder, Runtime};

#[idempotent(wait = "0s")]
async fn held(State(gate): State<Gate>, _body: String) -> &'static str {
    gate.pass().await;
    "done"
}

fn runtime(workers: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(workers).enable_all().build().expect("a runtime")
}

#[test]
fn a_run_that_ends_with_its_runtime_frees_its_key() {
    let gate = Gate::default();
    let app = Router::new()
        .route("/", route(held))
        .layer(Idempotency::new(MemoryStore::new()))
        .with_state(gate.clone());
    let key = fresh_key();
    for is_detached in [false, true] {
        let (first, app, gate, key) = (runtime(1), app.clone(), gate.clone(), key.clone());
        first.block_on(async {
            let running = post("/").key(&key).spawn(&app);
            gate.arrived.reaches(1 + usize::from(is_detached)).await;
            if is_detached {
                running.abort();
                assert!(running.await.is_err());
            }
            let busy = post("/").key(&key).send(&app).await;
            assert_eq!(busy.problem().1, "request_in_progress");
        });
        drop(first);
    }
    gate.open(1);
    let answer = runtime(1).block_on(post("/").key(&key).send(&app));
    assert_eq!((answer.text(), answer.is_replay()), ("done", false));
}

/// The handler blocks its thread for several leases; another thread of the runtime is free.
#[idempotent(wait = "0s")]
async fn blocking(State(blocker): State<Blocker>, _body: String) -> &'static str {
    blocker.started.send(()).expect("the test listens");
    blocker.go_on.lock().expect("no panic").recv().expect("the test lets it go on");
    "done"
}

#[derive(Clone)]
struct Blocker {
    started: mpsc::Sender<()>,
    go_on: std::sync::Arc<std::sync::Mutex<mpsc::Receiver<()>>>,
}

#[test]
fn a_handler_that_blocks_its_thread_keeps_its_claim_while_another_thread_is_free() {
    const LEASE: Duration = Duration::from_secs(1);
    let server = Redis::start();
    for _ in 0..3 {
        let (started, has_started) = mpsc::channel();
        let (go_on, gate) = mpsc::channel();
        let blocker = Blocker { started, go_on: std::sync::Arc::new(gate.into()) };
        let two = runtime(2);
        let (app, probe) = two.block_on(async {
            let store = RedisStore::connect(server.url()).await.expect("it is up");
            let probe = Probe::on(store);
            let idempotency = Idempotency::new(probe.clone()).lease(LEASE);
            let app = Router::new().route("/", route(blocking)).layer(idempotency);
            (app.with_state(blocker), probe)
        });
        let key = fresh_key();
        let running = two.spawn({
            let (app, key) = (app.clone(), key.clone());
            async move { post("/").key(key).send(&app).await }
        });
        has_started.recv().expect("it starts");
        // Four renewals are more than one lease.
        two.block_on(probe.renew.ended.reaches(4));
        let busy = thread::scope(|scope| {
            scope.spawn(|| runtime(1).block_on(busy(&server, &key))).join().expect("no panic")
        });
        assert!(busy, "the claim is held after more than a lease");
        go_on.send(()).expect("it waits");
        let answer = two.block_on(running).expect("no panic");
        assert_eq!((answer.text(), answer.is_replay()), ("done", false));
    }
}

/// Whether another instance finds the key running.
async fn busy(server: &Redis, key: &str) -> bool {
    let (started, _) = mpsc::channel();
    let (_, gate) = mpsc::channel();
    let blocker = Blocker { started, go_on: std::sync::Arc::new(gate.into()) };
    let store = RedisStore::connect(server.url()).await.expect("it is up");
    let app = Router::new().route("/", route(blocking)).layer(Idempotency::new(store));
    let answer = post("/").key(key).send(&app.with_state(blocker)).await;
    answer.status == 409 && answer.problem().1 == "request_in_progress"
}
