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

use super::problem::Problem;
use crate::{
    engine::{Decision, Digesting, Engine, Event, OnStoreError, Undrained},
    store::Store,
};

/// The store and settings that `#[idempotent]` handlers use: those below it as a layer, or all of
/// the process's, if it is [`install`](Idempotency::install)ed.
///
/// Handlers with neither use one `MemoryStore` of the process, whose handle is
/// [`Idempotency::default()`]. If layers are nested, the innermost one applies. A clone is another
/// handle to the same settings.
///
/// ```
/// use std::time::Duration;
///
/// use axum::{Router, routing::get};
/// use idempotent_runtime::{Idempotency, MemoryStore};
///
/// let idempotency = Idempotency::new(MemoryStore::new()).max_response_bytes(64 << 10);
/// // The layer goes on after the routes: it covers those that are there.
/// let app: Router = Router::new().route("/", get(|| async {})).layer(idempotency.clone());
/// # let _ = app;
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
    /// Whether these are what a service gets that sets nothing.
    pub(super) is_built_in: bool,
    /// Of [`Settings::check`].
    checked: Arc<Once>,
}

/// Whether settings on any store but a `MemoryStore` exist.
static SHARED_EXISTS: AtomicBool = AtomicBool::new(false);

/// Whether settings on a store with transactions exist.
#[cfg(feature = "postgres")]
static TRANSACTIONAL_EXISTS: AtomicBool = AtomicBool::new(false);

impl Idempotency {
    /// Settings with their defaults, on `store`.
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

    /// What a service gets that sets nothing.
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

    /// The settings that apply to a request with these extensions, if their store has transactions.
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
        // A service of its own from here on: changing the default changes nobody else's.
        settings.is_built_in = false;
        settings.checked = Arc::new(Once::new());
        self
    }

    fn set_engine(self, change: impl FnOnce(&mut Engine)) -> Self {
        self.set(|settings| change(Arc::make_mut(&mut settings.engine)))
    }

    /// The largest response body that is stored, in bytes. Default: 1 MiB.
    ///
    /// A larger one still reaches its caller whole; duplicates get 409 `response_not_stored`.
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
    /// One that has not ended by then is sent on as it comes, and duplicates get 409
    /// `response_not_stored`. Zero stores only what is there at once. Event streams and other bodies
    /// without an end are known by their content type and never held back.
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
    /// A running handler renews it at a third, so a handler may take longer than its lease. A
    /// store that answers late makes renewals late: below three times
    /// [`store_timeout`](Self::store_timeout) a claim may lapse while its handler runs, and the log
    /// warns of it.
    ///
    /// A handler that blocks its thread keeps its claim while its runtime has another thread free. On
    /// a runtime with one thread it loses the claim once it has blocked for longer than the lease.
    ///
    /// # Panics
    ///
    /// Panics if `lease` is zero: every claim would lapse as it is made.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        assert!(!lease.is_zero(), "`lease` must be longer than zero, such as 30 seconds");
        self.set_engine(|engine| engine.lease = lease)
    }

    /// The time limit of every single store call. Default: 2 seconds.
    ///
    /// # Panics
    ///
    /// Panics if `timeout` is zero: every call to a server would fail.
    #[must_use]
    pub fn store_timeout(self, timeout: Duration) -> Self {
        assert!(!timeout.is_zero(), "`store_timeout` must be longer than zero, such as 2 seconds");
        self.set_engine(|engine| engine.store_timeout = timeout)
    }

    /// What to do if the store fails before the handler ran. Default:
    /// [`OnStoreError::Reject`].
    #[must_use]
    pub fn on_store_error(self, on_store_error: OnStoreError) -> Self {
        self.set_engine(|engine| engine.on_store_error = on_store_error)
    }

    /// The page that documents your API's idempotency: the base of each problem's `type`, and a
    /// `Link` with `rel="describedby"`.
    ///
    /// # Panics
    ///
    /// Panics if `url` has a character that no URL has.
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
    /// `Retry-After` is added if the problem has it and the response lacks it.
    #[must_use]
    pub fn error_response<R: IntoResponse>(
        self,
        respond: impl Fn(Problem) -> R + Send + Sync + 'static,
    ) -> Self {
        let respond = move |problem| respond(problem).into_response();
        self.set(|settings| settings.error_response = Some(Arc::new(respond)))
    }

    /// How many bytes of request bodies the duplicates that wait for a running request may hold,
    /// together in this process. Default: 64 MiB.
    ///
    /// Past it a duplicate gets 409 `request_in_progress` at once.
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

    /// How many handlers may go on after their callers have gone away, at least 1. Default: 1024.
    ///
    /// Nothing that was started is cancelled: past it a request that would start a handler gets 503
    /// `too_many_runs`, while replays and duplicates are served.
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

    /// Has `listener` told of every decision, once, and of every call of a shared store: what to log,
    /// count or show. Each call adds a listener.
    ///
    /// It is called where the decision is made, in the request's task or in one of the library's, so it
    /// must not block. If it panics, that is caught and logged.
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

    /// Waits until no handler with a key is running, and nothing is left to store.
    ///
    /// A handler whose caller goes away continues in a task of its own. Call this after
    /// [`axum::serve`] has returned, so that a shutdown cuts off none of them. Once no handler is
    /// left, it takes at most one [`lease`](Self::lease) more. The log says what it waits for.
    ///
    /// [`axum::serve`]: https://docs.rs/axum/0.8/axum/fn.serve.html
    pub async fn drain(&self) {
        self.settings.engine.drain().await;
    }

    /// [`drain`](Self::drain)s for at most `limit`, such as the grace of a termination; what was
    /// still under way then.
    pub async fn drain_for(&self, limit: Duration) -> Undrained {
        self.settings.engine.drain_for(limit).await
    }
}

impl fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        f.debug_struct("Idempotency")
            .field("max_response_bytes", &settings.max_response_bytes)
            .field("max_capture_time", &settings.max_capture_time)
            .field("lease", &settings.engine.lease)
            .field("store_timeout", &settings.engine.store_timeout)
            .field("on_store_error", &settings.engine.on_store_error)
            .field("max_waiting_bytes", &settings.engine.max_waiting_bytes)
            .field("max_detached_runs", &settings.engine.max_detached_runs)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Warns of settings that do not go together. Once: a router applies a layer to every route.
    pub(super) fn check(&self) {
        self.checked.call_once(|| {
            let Engine { lease, store_timeout, .. } = &*self.engine;
            if *lease < store_timeout.saturating_mul(3) {
                tracing::warn!(
                    target: crate::TARGET,
                    ?lease,
                    ?store_timeout,
                    "`lease` is shorter than three times `store_timeout`: one slow renewal may cost \
                     a running handler its claim, and a retry then runs beside it"
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
                    "`store_timeout` is longer than the `statement_timeout` of `PostgresStore`, which \
                     ends a slow call first: raise that, or lower `store_timeout`"
                );
            }
        });
    }

    /// Whether a handler runs on the built-in default although the process has set up another
    /// store: nobody means that.
    pub(super) fn is_missed_store(&self) -> bool {
        self.is_built_in && SHARED_EXISTS.load(Ordering::Relaxed)
    }

    /// How the fingerprints of this service are made.
    pub(super) fn digesting(&self) -> Digesting {
        if self.engine.store.is_memory() { Digesting::Process } else { Digesting::Stable }
    }

    /// Refuses a request before the engine is asked, and tells so.
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

    /// The response that says `problem`, in the service's format.
    pub(super) fn respond(&self, mut problem: Problem) -> Response {
        problem.docs_url.clone_from(&self.docs_url);
        let retry_after: Option<HeaderValue> = problem.retry_after();
        let mut response = match &self.error_response {
            Some(respond) => respond(problem),
            None => problem.into_response(),
        };
        if let Some(seconds) = retry_after {
            response.headers_mut().entry(header::RETRY_AFTER).or_insert(seconds);
        }
        response
    }
}
