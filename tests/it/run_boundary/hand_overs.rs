//! Callers that leave at any moment, on several threads: each key has one effect, whole.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::HeaderMap,
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::post as route,
};
use idempotent_axum::{Idempotency, MemoryStore, RunBoundary, Store, idempotent};
use idempotent_test_support::{Leased, Probe, fresh_key, post};
use tokio::task::yield_now;

const ROUNDS: u32 = 2000;

/// By key: what handlers have done, and what the layer around them has.
#[derive(Clone, Default)]
struct Effects(Arc<Mutex<HashMap<String, [usize; 2]>>>);

impl Effects {
    fn add(&self, headers: &HeaderMap, which: usize) {
        let key = headers["idempotency-key"].to_str().expect("ASCII").to_owned();
        self.0.lock().expect("no panic").entry(key).or_default()[which] += 1;
    }
}

#[idempotent(wait = "1h")]
async fn work(State(effects): State<Effects>, headers: HeaderMap, _body: String) -> &'static str {
    yield_now().await;
    effects.add(&headers, 0);
    yield_now().await;
    "done"
}

/// Commits what the handler has done, unless the response is a replay.
async fn commit(State(effects): State<Effects>, request: Request, next: Next) -> Response {
    let headers = request.headers().clone();
    yield_now().await;
    let response = next.run(request).await;
    yield_now().await;
    if !response.headers().contains_key("idempotent-replayed") {
        effects.add(&headers, 1);
    }
    response
}

/// Runs what is inside in a separate task.
async fn elsewhere(request: Request, next: Next) -> Response {
    match tokio::spawn(next.run(request)).await {
        Ok(response) => response,
        Err(error) => error.to_string().into_response(),
    }
}

/// A key, a caller that leaves after `yields`, and a retry at the same time.
async fn round(app: &Router, yields: u32) -> String {
    let key = fresh_key();
    let caller = post("/").key(&key).spawn(app);
    let retry = post("/").key(&key).spawn(app);
    for _ in 0..yields {
        yield_now().await;
    }
    caller.abort();
    let _ = caller.await;
    assert_eq!(retry.await.expect("an answer").text(), "done");
    let late = post("/").key(&key).send(app).await;
    assert!(late.is_replay());
    key
}

async fn rounds(
    store: impl Store,
    layers: impl FnOnce(Router<Effects>, &Effects) -> Router<Effects>,
) {
    let effects = Effects::default();
    let idempotency = Idempotency::new(store).lease(Duration::from_secs(3600));
    let bounded = layers(Router::new().route("/", route(work)), &effects);
    let app = bounded.layer(idempotency.clone()).with_state(effects.clone());
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..4 {
        let app = app.clone();
        tasks.spawn(async move {
            let mut keys = Vec::new();
            for number in 0..ROUNDS / 4 {
                keys.push(round(&app, (number * 7 + task) % 40).await);
            }
            keys
        });
    }
    let keys: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    idempotency.drain().await;
    let effects = effects.0.lock().expect("no panic");
    for key in keys {
        assert_eq!(effects[&key], [1, 1], "the effect and its commit, once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_that_leave_at_any_moment_leave_one_whole_effect_a_key() {
    let layers = |routes: Router<Effects>, effects: &Effects| {
        let commit = from_fn_with_state(effects.clone(), commit);
        routes.layer(commit).layer(RunBoundary::new())
    };
    rounds(MemoryStore::new(), layers).await;
    rounds(Probe::on(Leased::default()), layers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn so_do_they_if_the_handler_runs_in_another_task_than_its_boundary() {
    // What is in the other task continues on its own: all of it, if it has passed the layer.
    let layers = |routes: Router<Effects>, effects: &Effects| {
        let commit = from_fn_with_state(effects.clone(), commit);
        routes.layer(commit).layer(from_fn(elsewhere)).layer(RunBoundary::new())
    };
    rounds(MemoryStore::new(), layers).await;
    rounds(Probe::on(Leased::default()), layers).await;
}
