//! The service: in this process, on its own runtime, whose tasks are counted.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, extract::State, http::StatusCode, routing::post};
use idempotent_axum::{
    Idempotency, IdempotencyKey, PostgresStore, RedisStore, SqliteStore, idempotent,
};
use idempotent_test_support::post as request;
use tokio::runtime::Runtime;

use crate::{
    history::{ASKED, History, Observed},
    load::{Answer, Request},
};

/// Shorter than the default, so that an outage of 30 s outlasts it. Three times `store_timeout`.
pub(crate) const LEASE: Duration = Duration::from_secs(6);

/// More than all responses of a row take.
const NEAR_CACHE: usize = 64 << 20;

/// How long `drain` may take before the test mends the fault.
const DRAIN_LIMIT: Duration = Duration::from_secs(90);

/// How the service reaches its store.
#[derive(Clone)]
pub(crate) enum Access {
    Redis(String),
    Cluster(Vec<String>),
    /// The name as a URL, and the Sentinels that know it.
    Sentinel(String, Vec<String>),
    Postgres(String),
    /// Through a transaction pooler.
    Pooled(String),
    Sqlite(PathBuf),
}

pub(crate) struct Service {
    runtime: Option<Runtime>,
    router: Router,
    idempotency: Idempotency,
    /// The load's own tasks: one for each unanswered request.
    requests: Arc<AtomicUsize>,
    pub(crate) history: Arc<History>,
}

/// Most runs take a moment, some longer, so that a fault meets some of them midway.
#[idempotent(wait = "2s")]
async fn order(State(history): State<Arc<History>>, key: IdempotencyKey) -> (StatusCode, String) {
    let run = history.run(key.get().expect("every request has a key"));
    let work = if run.index() % 8 == 0 { 400 } else { 20 };
    tokio::time::sleep(Duration::from_millis(work)).await;
    (StatusCode::CREATED, format!("order {}", run.end()))
}

impl Service {
    pub(crate) fn start(access: &Access, has_copies: bool) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().expect("threads start");
        let history = Arc::new(History::default());
        let idempotency = runtime.block_on(idempotency(access, &history)).lease(LEASE);
        let idempotency = idempotency.near_cache(if has_copies { NEAR_CACHE } else { 0 });
        let orders = Router::new().route("/orders", post(order));
        let router = orders.layer(idempotency.clone()).with_state(Arc::clone(&history));
        let requests = Arc::default();
        Self { runtime: Some(runtime), router, idempotency, requests, history }
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is there until the drop")
    }

    /// Sends a request in its own task, which hands the answer to `answered`.
    pub(crate) fn send(&self, one: Request, answered: impl FnOnce(Answer) + Send + 'static) {
        let router = self.router.clone();
        let counted = Counted::new(&self.requests);
        self.runtime().spawn(async move {
            let _counted = counted;
            let key = one.key.clone();
            let send = request("/orders").key(&*key).body(key.to_string()).send(&router);
            let answer = ASKED.scope(key, send).await;
            let (status, is_replay) = (answer.status.as_u16(), answer.is_replay());
            let is_running = status == 409 && answer.problem().1 == "request_in_progress";
            answered(Answer { request: one, status, is_replay, is_running, at: Instant::now() });
        });
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn ask(&self, sent: Request) -> Answer {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.send(sent, move |answer| {
            let _ = sender.send(answer);
        });
        receiver.recv().expect("every request is answered")
    }

    /// How many requests are unanswered.
    pub(crate) fn unanswered(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// How many tasks the library and its store's client have.
    pub(crate) fn tasks(&self) -> usize {
        let requests = self.unanswered();
        self.runtime().metrics().num_alive_tasks().saturating_sub(requests)
    }

    /// Awaits `drain`; `None` if it has not ended in time.
    pub(crate) fn drain(&self) -> Option<Duration> {
        let since = Instant::now();
        let drain = async { tokio::time::timeout(DRAIN_LIMIT, self.idempotency.drain()).await };
        self.runtime().block_on(drain).ok()?;
        Some(since.elapsed())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn idempotency(access: &Access, history: &Arc<History>) -> Idempotency {
    match access {
        Access::Redis(url) => {
            let store = RedisStore::connect(url).await.expect("the server is there");
            Idempotency::new(Observed::new(store, history))
        }
        Access::Cluster(urls) => {
            let store = RedisStore::connect_cluster(urls).await.expect("the cluster is there");
            Idempotency::new(Observed::new(store, history))
        }
        Access::Sentinel(url, sentinels) => {
            let store = RedisStore::connect_sentinel(url, sentinels).await;
            Idempotency::new(Observed::new(store.expect("the Sentinels are there"), history))
        }
        Access::Sqlite(file) => {
            let store = SqliteStore::connect(file).await.expect("the file can be made");
            Idempotency::new(Observed::new(store, history))
        }
        Access::Postgres(url) | Access::Pooled(url) => {
            let builder = PostgresStore::builder();
            let is_pooled = matches!(access, Access::Pooled(_));
            let builder = if is_pooled { builder.transaction_pooler() } else { builder };
            let store = builder.connect(url).await.expect("the server is there");
            store.migrate().await.expect("the table can be made");
            Idempotency::new(Observed::new(store, history))
        }
    }
}

/// One of a number, until it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(number: &Arc<AtomicUsize>) -> Self {
        number.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(number))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
