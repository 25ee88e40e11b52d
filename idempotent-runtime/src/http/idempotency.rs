//! [`Idempotency`]: the settings of a service.

use std::{
    fmt,
    sync::{
        Arc, Once,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};

use tracing::Span;

#[cfg(feature = "testing")]
use super::origin::Origin;
use super::problem::Problem;
use crate::{
    engine::{Decision, Digesting, Engine, Event, OnStoreError, Undrained},
    store::Store,
};

/// The store and settings that `#[idempotent]` handlers use: as a layer, for the handlers below it;
/// if [`install`](Idempotency::install)ed, for the whole process.
///
/// Handlers with neither share one `MemoryStore` in the process, and [`Idempotency::default()`] is
/// its handle. If layers are nested, the innermost one applies. A clone is another handle to the
/// same settings.
///
/// ```
/// use std::time::Duration;
///
/// use axum::{Router, routing::get};
/// use idempotent_runtime::{Idempotency, MemoryStore};
///
/// let idempotency = Idempotency::new(MemoryStore::new()).max_response_bytes(64 << 10);
/// // Add the layer after the routes: it covers those that already exist.
/// let app: Router = Router::new().route("/", get(|| async {})).layer(idempotency.clone());
/// # assert!(app.has_routes());
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// idempotency.drain().await;
/// # });
/// ```
#[derive(Clone)]
pub struct Idempotency {
    pub(super) settings: Arc<Settings>,
}

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) engine: Arc<Engine>,
    pub(super) max_response_bytes: usize,
    pub(super) max_capture_time: Duration,
    docs_url: Option<Arc<str>>,
    error_response: Option<Arc<dyn Fn(Problem) -> Response + Send + Sync>>,
    /// Whether these are the built-in settings of a service that configures nothing.
    pub(super) is_built_in: bool,
    /// Makes [`Settings::check`] run once.
    checked: Arc<Once>,
}

/// Whether settings on a store other than `MemoryStore` exist.
static SHARED_EXISTS: AtomicBool = AtomicBool::new(false);

/// Whether settings on a store with transactions exist.
#[cfg(feature = "postgres")]
static TRANSACTIONAL_EXISTS: AtomicBool = AtomicBool::new(false);

impl Idempotency {
    /// Default settings on `store`.
    ///
    /// ```
    /// # use idempotent_runtime::{Idempotency, MemoryStore};
    /// let idempotency = Idempotency::new(MemoryStore::new());
    /// assert!(format!("{idempotency:?}").contains("lease: 30s"));
    /// ```
    pub fn new(store: impl Store) -> Self {
        let engine = Engine::new(store);
        if !engine.store.is_memory() {
            SHARED_EXISTS.store(true, Ordering::Relaxed);
        }
        #[cfg(feature = "postgres")]
        if engine.store.transactional().is_some() {
            TRANSACTIONAL_EXISTS.store(true, Ordering::Relaxed);
        }
        Self::on(engine)
    }

    /// The settings of a service that configures nothing.
    pub(super) fn built_in() -> Self {
        #[cfg(feature = "memory")]
        let store = crate::store::MemoryStore::new();
        #[cfg(not(feature = "memory"))]
        let store = crate::store::Unconfigured;
        let mut built_in = Self::on(Engine::new(store));
        Arc::make_mut(&mut built_in.settings).is_built_in = true;
        built_in
    }

    fn on(engine: Engine) -> Self {
        let settings = Settings {
            engine: Arc::new(engine),
            max_response_bytes: 1 << 20,
            max_capture_time: Duration::from_secs(5),
            docs_url: None,
            error_response: None,
            is_built_in: false,
            checked: Arc::new(Once::new()),
        };
        Self { settings: Arc::new(settings) }
    }

    /// The settings that apply to a request with these extensions, if their store supports
    /// transactions.
    #[cfg(feature = "postgres")]
    pub(super) fn transactional_for(extensions: &http::Extensions) -> Option<&Arc<Settings>> {
        if !TRANSACTIONAL_EXISTS.load(Ordering::Relaxed) {
            return None;
        }
        let settings = Self::for_request(extensions);
        settings.engine.store.transactional().map(|_| settings)
    }

    fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        let settings = Arc::make_mut(&mut self.settings);
        change(settings);
        // Separate from here on: changing the default must not change it for others.
        settings.is_built_in = false;
        settings.checked = Arc::new(Once::new());
        self
    }

    pub(super) fn set_engine(self, change: impl FnOnce(&mut Engine)) -> Self {
        self.set(|settings| change(Arc::make_mut(&mut settings.engine)))
    }

    /// The largest response body that is stored, in bytes. Default: 1 MiB.
    ///
    /// A larger one still reaches its caller whole, and duplicates get 409 `response_not_stored`.
    ///
    /// ```
    /// # use idempotent_runtime::{Idempotency, MemoryStore};
    /// let idempotency = Idempotency::new(MemoryStore::new()).max_response_bytes(64 << 10);
    /// assert!(format!("{idempotency:?}").contains("max_response_bytes: 65536"));
    /// ```
    #[must_use]
    pub fn max_response_bytes(self, bytes: usize) -> Self {
        self.set(|settings| settings.max_response_bytes = bytes)
    }

    /// How long a response body may take to end, counted from its head. Default: 5 seconds.
    ///
    /// A body that has not ended by then is forwarded as it arrives, and duplicates get 409
    /// `response_not_stored`. With zero, only bodies that are available at once are stored. Event
    /// streams and other endless bodies are recognised by their content type and never held back.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use idempotent_runtime::{Idempotency, MemoryStore};
    /// let idempotency =
    ///     Idempotency::new(MemoryStore::new()).max_capture_time(Duration::from_secs(1));
    /// assert!(format!("{idempotency:?}").contains("max_capture_time: 1s"));
    /// ```
    #[must_use]
    pub fn max_capture_time(self, time: Duration) -> Self {
        self.set(|settings| settings.max_capture_time = time)
    }

    /// How long a claim in a shared store survives a dead instance. Default: 30 seconds.
    ///
    /// A running handler renews its claim after a third of the lease, so it may take longer than
    /// the lease. If the store answers late, renewals are late too: with less than three times
    /// [`store_timeout`](Self::store_timeout) a claim may lapse while its handler runs, and the log
    /// warns about it.
    ///
    /// A handler that blocks its thread keeps its claim as long as its runtime has another thread
    /// free. On a single-threaded runtime it loses the claim once it has blocked for longer than
    /// the lease.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use idempotent_runtime::{Idempotency, MemoryStore};
    /// let idempotency = Idempotency::new(MemoryStore::new()).lease(Duration::from_secs(10));
    /// assert!(format!("{idempotency:?}").contains("lease: 10s"));
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if `lease` is zero: every claim would lapse immediately.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        assert!(!lease.is_zero(), "`lease` must be longer than zero, such as 30 seconds");
        self.set_engine(|engine| engine.lease = lease)
    }

    /// The time limit of each store call. Default: 2 seconds.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use idempotent_runtime::{Idempotency, MemoryStore};
    /// let idempotency = Idempotency::new(MemoryStore::new()).store_timeout(Duration::from_secs(1));
    /// assert!(format!("{idempotency:?}").contains("store_timeout: 1s"));
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if `timeout` is zero: every call to a server would fail.
    #[must_use]
    pub fn store_timeout(self, timeout: Duration) -> Self {
        assert!(!timeout.is_zero(), "`store_timeout` must be longer than zero, such as 2 seconds");
        self.set_engine(|engine| engine.store_timeout = timeout)
    }

    /// Keeps copies of stored responses in this process's memory, in at most `max_bytes`, so that
    /// they are replayed without the shared store. Default: no copies.
    ///
    /// What this process has stored or replayed once, it replays from its copy until the `ttl`
    /// passes, for at most 10 minutes: without a round trip, and even while the store is slow or
    /// down. If a key is [forgotten](crate::OperationKey::forget) on another instance, it may still
    /// be replayed here for that long. A `MemoryStore` needs no copies, so this has no effect on
    /// one; neither does 0.
    ///
    /// Copies are in plaintext, and each counts as some 600 bytes more than its content. When there
    /// is no room, the least requested ones are dropped. Clones of these settings share the copies.
    ///
    /// ```
    /// # #[cfg(feature = "memory")] {
    /// use idempotent_runtime::{Idempotency, MemoryStore};
    ///
    /// let idempotency = Idempotency::new(MemoryStore::new()).near_cache(32 << 20);
    /// assert!(format!("{idempotency:?}").contains("near_cache: None"), "it is near already");
    /// # }
    /// ```
    #[cfg(feature = "near-cache")]
    #[must_use]
    pub fn near_cache(self, max_bytes: usize) -> Self {
        self.set_engine(|engine| engine.keep_copies(max_bytes))
    }

    /// What to do if the store fails before the handler has run. Default: [`OnStoreError::Reject`].
    ///
    /// ```
    /// # use idempotent_runtime::{Idempotency, MemoryStore, OnStoreError};
    /// let idempotency = Idempotency::new(MemoryStore::new()).on_store_error(OnStoreError::Execute);
    /// assert!(format!("{idempotency:?}").contains("on_store_error: Execute"));
    /// ```
    #[must_use]
    pub fn on_store_error(self, on_store_error: OnStoreError) -> Self {
        self.set_engine(|engine| engine.on_store_error = on_store_error)
    }

    /// The page that documents your API's idempotency: the base of each problem's `type`, and the
    /// target of a `Link` with `rel="describedby"`.
    ///
    /// ```
    /// # use axum::{Router, body::Body, response::IntoResponse, routing::any};
    /// # use http::Request;
    /// # use idempotent_runtime::__private::{Idempotent, Policy};
    /// # let app: Router = Router::new().fallback(any(|last: Idempotent<()>| {
    /// #     static POLICY: Policy = Policy { required: true, ..Policy::DEFAULT };
    /// #     let known = Idempotent::probe(&last).known();
    /// #     Idempotent::run(last, &POLICY, known, IntoResponse::into_response, |_| |(), _| async {})
    /// # }));
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use idempotent_runtime::{Idempotency, MemoryStore};
    ///
    /// let idempotency =
    ///     Idempotency::new(MemoryStore::new()).docs_url("https://example.com/docs/idempotency");
    /// // A request without a key, which the operation requires:
    /// # let mut app = app.layer(idempotency);
    /// # let response = tower_service::Service::call(&mut app, Request::new(Body::empty())).await.unwrap();
    /// assert_eq!(
    ///     response.headers()["link"],
    ///     r#"<https://example.com/docs/idempotency>; rel="describedby""#
    /// );
    /// # });
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if `url` contains a character that is not allowed in a URL.
    #[must_use]
    pub fn docs_url(self, url: impl Into<Arc<str>>) -> Self {
        let url = url.into();
        assert!(
            url.parse::<http::Uri>().is_ok() && !url.contains(['<', '>', '"']),
            "`docs_url` must be a URL, percent-encoded where needed, not {url:?}"
        );
        self.set(|settings| settings.docs_url = Some(url))
    }

    /// Your own format for the errors of this library.
    ///
    /// If the problem has a `Retry-After`, it is added to responses that lack it.
    ///
    /// ```
    /// # use axum::{Router, body::Body, response::IntoResponse, routing::any};
    /// # use http::Request;
    /// # use idempotent_runtime::__private::{Idempotent, Policy};
    /// # let app: Router = Router::new().fallback(any(|last: Idempotent<()>| {
    /// #     static POLICY: Policy = Policy { required: true, ..Policy::DEFAULT };
    /// #     let known = Idempotent::probe(&last).known();
    /// #     Idempotent::run(last, &POLICY, known, IntoResponse::into_response, |_| |(), _| async {})
    /// # }));
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use idempotent_runtime::{Idempotency, MemoryStore, Problem};
    ///
    /// let idempotency = Idempotency::new(MemoryStore::new())
    ///     .error_response(|problem: Problem| (problem.status(), problem.code().as_str()));
    /// // A request without a key, which the operation requires:
    /// # let mut app = app.layer(idempotency);
    /// # let response = tower_service::Service::call(&mut app, Request::new(Body::empty())).await.unwrap();
    /// assert_eq!(response.status(), 400);
    /// let body = axum::body::to_bytes(response.into_body(), 100).await?;
    /// assert_eq!(body, "missing_key");
    /// # Ok::<_, axum::Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn error_response<R: IntoResponse>(
        self,
        respond: impl Fn(Problem) -> R + Send + Sync + 'static,
    ) -> Self {
        let respond = move |problem| respond(problem).into_response();
        self.set(|settings| settings.error_response = Some(Arc::new(respond)))
    }

    /// How many bytes of request bodies all duplicates in this process that wait for a running
    /// request may hold together. Default: 64 MiB.
    ///
    /// Beyond that, a duplicate gets 409 `request_in_progress` at once.
    ///
    /// ```
    /// # use idempotent_runtime::{Idempotency, MemoryStore};
    /// let idempotency = Idempotency::new(MemoryStore::new()).max_waiting_bytes(16 << 20);
    /// assert!(format!("{idempotency:?}").contains("max_waiting_bytes: 16777216"));
    /// ```
    #[must_use]
    pub fn max_waiting_bytes(self, bytes: usize) -> Self {
        self.set_engine(|engine| engine.max_waiting_bytes = bytes)
    }

    /// How many handlers may continue after their callers have gone away, at least 1. Default:
    /// 1024.
    ///
    /// Nothing that has started is cancelled: at the limit, a request that would start a handler
    /// gets 503 `too_many_runs`, while replays and duplicates are still served.
    ///
    /// ```
    /// # use idempotent_runtime::{Idempotency, MemoryStore};
    /// let idempotency = Idempotency::new(MemoryStore::new()).max_detached_runs(100);
    /// assert!(format!("{idempotency:?}").contains("max_detached_runs: 100"));
    /// ```
    #[must_use]
    pub fn max_detached_runs(self, runs: usize) -> Self {
        self.set_engine(|engine| engine.max_detached_runs = runs.max(1))
    }

    /// Calls `listener` for every decision, once, and for every call to a shared store: for logs,
    /// counters or displays. Each call adds a listener.
    ///
    /// The listener is called where the decision is made, in the request's task or one of the
    /// library's, so it must not block. If it panics, the panic is caught and logged.
    ///
    /// ```
    /// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
    ///
    /// use idempotent_runtime::{Decision, Idempotency, MemoryStore};
    ///
    /// let replays = Arc::new(AtomicU64::new(0));
    /// let counter = replays.clone();
    /// let idempotency = Idempotency::new(MemoryStore::new()).on_event(move |event| {
    ///     if let Some(Decision::Replayed(_)) = event.decision() {
    ///         counter.fetch_add(1, Ordering::Relaxed);
    ///     }
    /// });
    /// # let _ = idempotency;
    /// assert_eq!(replays.load(Ordering::Relaxed), 0);
    /// ```
    #[must_use]
    pub fn on_event(self, listener: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.set_engine(|engine| engine.listen(listener))
    }

    /// Waits until no handler with a key is running and nothing is left to store.
    ///
    /// A handler whose caller goes away continues in its own task. Call this after [`axum::serve`]
    /// has returned, so that a shutdown does not cut off any of them. Once no handler is left, it
    /// takes at most one more [`lease`](Self::lease). The log says what it waits for.
    ///
    /// [`axum::serve`]: https://docs.rs/axum/0.8/axum/fn.serve.html
    ///
    /// ```
    /// # use idempotent_runtime::{Idempotency, MemoryStore, OperationState};
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let idempotency = Idempotency::new(MemoryStore::new());
    /// let key = idempotency.operation("charge-card").key("message-1");
    /// let (started, has_started) = tokio::sync::oneshot::channel();
    /// tokio::spawn(key.clone().run(|_| async {
    ///     started.send(()).unwrap();
    ///     tokio::task::yield_now().await;
    ///     Ok::<_, ()>(7)
    /// }));
    /// has_started.await.unwrap();
    ///
    /// idempotency.drain().await;
    /// assert!(matches!(key.state().await?, OperationState::Stored { .. }));
    /// # Ok::<_, idempotent_runtime::StoreError>(())
    /// # }).unwrap();
    /// ```
    pub async fn drain(&self) {
        self.settings.engine.drain().await;
    }

    /// Like [`drain`](Self::drain), but waits for at most `limit`, such as the termination grace
    /// period; returns what was still in progress then.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use idempotent_runtime::{Idempotency, MemoryStore};
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let idempotency = Idempotency::new(MemoryStore::new());
    /// let left = idempotency.drain_for(Duration::from_secs(25)).await;
    /// assert_eq!((left.runs, left.background), (0, 0));
    /// # });
    /// ```
    pub async fn drain_for(&self, limit: Duration) -> Undrained {
        self.settings.engine.drain_for(limit).await
    }
}

impl fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        let mut debug = f.debug_struct("Idempotency");
        #[cfg(feature = "seal")]
        debug.field("sealing", &settings.engine.seals.sealing());
        debug
            .field("max_response_bytes", &settings.max_response_bytes)
            .field("max_capture_time", &settings.max_capture_time)
            .field("lease", &settings.engine.lease)
            .field("store_timeout", &settings.engine.store_timeout)
            .field("on_store_error", &settings.engine.on_store_error)
            .field("max_waiting_bytes", &settings.engine.max_waiting_bytes)
            .field("max_detached_runs", &settings.engine.max_detached_runs)
            .field("keyed_digests", &settings.engine.has_keyed_digests());
        #[cfg(feature = "near-cache")]
        debug.field("near_cache", &settings.engine.max_copied_bytes());
        debug.finish_non_exhaustive()
    }
}

impl Settings {
    /// Warns about settings that do not fit together, once: a router applies a layer to every
    /// route.
    pub(super) fn check(&self) {
        self.checked.call_once(|| {
            let Engine { lease, store_timeout, .. } = &*self.engine;
            if *lease < store_timeout.saturating_mul(3) {
                tracing::warn!(
                    target: crate::TARGET,
                    ?lease,
                    ?store_timeout,
                    "`lease` is shorter than three times `store_timeout`: one slow renewal can \
                     cost a running handler its claim, and a retry would then run alongside it"
                );
            }
            #[cfg(feature = "postgres")]
            if let Some(statement_timeout) = self
                .engine
                .store
                .transactional()
                .and_then(crate::PostgresStore::statement_timeout)
                .filter(|statement_timeout| statement_timeout < store_timeout)
            {
                tracing::warn!(
                    target: crate::TARGET,
                    ?statement_timeout,
                    ?store_timeout,
                    "`store_timeout` is longer than the `statement_timeout` of `PostgresStore`, \
                     which cancels slow calls first: raise `statement_timeout` or lower \
                     `store_timeout`"
                );
            }
        });
    }

    /// Whether a handler runs on the built-in default although the process has set up another
    /// store, which is never intended.
    pub(super) fn is_missed_store(&self) -> bool {
        self.is_built_in && SHARED_EXISTS.load(Ordering::Relaxed)
    }

    /// How this service computes fingerprints.
    pub(super) fn digesting(&self) -> Digesting {
        if self.engine.store.is_memory() {
            Digesting::Process
        } else {
            self.engine.digesting.clone()
        }
    }

    /// Refuses a request before the engine is asked, and reports the refusal.
    pub(super) fn refuse_unasked(
        &self,
        span: Option<&Span>,
        operation: Option<&str>,
        problem: Problem,
    ) -> Response {
        let refused = Decision::Refused(problem.code());
        self.engine.tell(span, &Event::decided(operation, None, refused));
        self.respond(problem)
    }

    /// The response for `problem`, in the service's format.
    pub(super) fn respond(&self, mut problem: Problem) -> Response {
        problem.docs_url.clone_from(&self.docs_url);
        let retry_after: Option<HeaderValue> = problem.retry_after();
        #[cfg(feature = "testing")]
        let origin = Origin::Refusal(problem.code());
        let mut response = match &self.error_response {
            Some(respond) => respond(problem),
            None => problem.into_response(),
        };
        #[cfg(feature = "testing")]
        response.extensions_mut().insert(origin);
        if let Some(seconds) = retry_after {
            response.headers_mut().entry(header::RETRY_AFTER).or_insert(seconds);
        }
        response
    }
}
