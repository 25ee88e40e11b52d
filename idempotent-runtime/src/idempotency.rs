//! [`Idempotency`]: the settings of a service, and the layer that puts them in place.

use std::{
    fmt,
    sync::{
        Arc, LazyLock, Once,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension,
    middleware::AddExtension,
    response::{IntoResponse, Response},
};
use http::{Extensions, HeaderValue, header};
use tokio::sync::Notify;
use tower_layer::Layer;

use crate::{
    problem::Problem,
    store::{ErasedStore, Store},
};

/// The store and settings that `#[idempotent]` handlers below this layer use.
///
/// Handlers without such a layer use one process-wide store in memory, whose handle is
/// [`Idempotency::default()`]. Of nested layers the innermost wins. A clone is another handle to
/// the same settings.
#[derive(Clone)]
pub struct Idempotency {
    settings: Arc<Settings>,
}

/// What to do with a request where the store cannot be asked before its handler ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnStoreError {
    /// Answer 503 and run nothing.
    #[default]
    Reject,
    /// Run the handler without protection. Only the first request to a key that the store could
    /// not be asked about runs so: a duplicate that has seen a running claim gets 503.
    Execute,
}

#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) store: Arc<dyn ErasedStore>,
    pub(crate) max_response_bytes: usize,
    pub(crate) lease: Duration,
    pub(crate) store_timeout: Duration,
    pub(crate) on_store_error: OnStoreError,
    docs_url: Option<Arc<str>>,
    error_response: Option<Arc<dyn Fn(Problem) -> Response + Send + Sync>>,
    pub(crate) in_flight: InFlight,
    /// Of [`Settings::check`].
    checked: Arc<Once>,
}

impl Idempotency {
    /// Settings with their defaults, on `store`.
    pub fn new(store: impl Store) -> Self {
        let settings = Settings {
            store: Arc::new(store),
            max_response_bytes: 1 << 20,
            lease: Duration::from_secs(30),
            store_timeout: Duration::from_secs(2),
            on_store_error: OnStoreError::default(),
            docs_url: None,
            error_response: None,
            in_flight: InFlight::default(),
            checked: Arc::new(Once::new()),
        };
        Self { settings: Arc::new(settings) }
    }

    fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        let settings = Arc::make_mut(&mut self.settings);
        change(settings);
        settings.checked = Arc::new(Once::new());
        self
    }

    /// The largest response body that is stored, in bytes. Default: 1 MiB.
    ///
    /// A larger one still reaches its caller whole; duplicates get 409 `response_not_stored`.
    #[must_use]
    pub fn max_response_bytes(self, bytes: usize) -> Self {
        self.set(|settings| settings.max_response_bytes = bytes)
    }

    /// How long a claim in a shared store survives a dead instance. Default: 30 seconds.
    ///
    /// A running handler renews it at a third, so a handler may take longer than its lease. A
    /// store that answers late makes renewals late: below three times
    /// [`store_timeout`](Self::store_timeout) a claim may lapse while its handler runs, of which the
    /// log warns.
    ///
    /// # Panics
    ///
    /// Where `lease` is zero: every claim would lapse as it is made.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        assert!(!lease.is_zero(), "`lease` must be longer than zero, such as 30 seconds");
        self.set(|settings| settings.lease = lease)
    }

    /// The time limit of every single store call. Default: 2 seconds.
    #[must_use]
    pub fn store_timeout(self, timeout: Duration) -> Self {
        self.set(|settings| settings.store_timeout = timeout)
    }

    /// What to do where the store fails before the handler ran. Default:
    /// [`OnStoreError::Reject`].
    #[must_use]
    pub fn on_store_error(self, on_store_error: OnStoreError) -> Self {
        self.set(|settings| settings.on_store_error = on_store_error)
    }

    /// The page that documents your API's idempotency: the base of each problem's `type`, and a
    /// `Link` with `rel="describedby"`.
    ///
    /// # Panics
    ///
    /// Where `url` has a character that no URL has.
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
    /// `Retry-After` is added where the problem has it and the response lacks it.
    #[must_use]
    pub fn error_response<R: IntoResponse>(
        self,
        respond: impl Fn(Problem) -> R + Send + Sync + 'static,
    ) -> Self {
        let respond = move |problem| respond(problem).into_response();
        self.set(|settings| settings.error_response = Some(Arc::new(respond)))
    }

    /// Waits until no handler with a key runs any more, and nothing is left to store.
    ///
    /// A handler whose caller goes away goes on in a task of its own. Call this after
    /// [`axum::serve()`] has returned, so that a shutdown cuts off none of them.
    pub async fn drain(&self) {
        self.settings.in_flight.wait().await;
    }

    /// The settings that apply to a request with these extensions.
    pub(crate) fn of(extensions: &Extensions) -> Arc<Settings> {
        let layer = extensions.get::<Self>().unwrap_or(&DEFAULT);
        Arc::clone(&layer.settings)
    }
}

static DEFAULT: LazyLock<Idempotency> = LazyLock::new(|| {
    #[cfg(feature = "memory")]
    let store = crate::MemoryStore::new();
    #[cfg(not(feature = "memory"))]
    let store = crate::store::unconfigured::Unconfigured;
    Idempotency::new(store)
});

/// The settings of handlers without a layer.
impl Default for Idempotency {
    fn default() -> Self {
        DEFAULT.clone()
    }
}

impl fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        f.debug_struct("Idempotency")
            .field("max_response_bytes", &settings.max_response_bytes)
            .field("lease", &settings.lease)
            .field("store_timeout", &settings.store_timeout)
            .field("on_store_error", &settings.on_store_error)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for Idempotency {
    type Service = AddExtension<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        self.settings.check();
        Extension(self.clone()).layer(inner)
    }
}

impl Settings {
    /// Warns of settings that do not go together. Once: a router applies a layer to every route.
    fn check(&self) {
        self.checked.call_once(|| {
            if self.lease < self.store_timeout.saturating_mul(3) {
                tracing::warn!(
                    lease = ?self.lease,
                    store_timeout = ?self.store_timeout,
                    "`lease` is shorter than three times `store_timeout`: one slow renewal may cost \
                     a running handler its claim, and a retry then runs beside it"
                );
            }
        });
    }

    /// The response that says `problem`, in the service's format.
    pub(crate) fn respond(&self, mut problem: Problem) -> Response {
        problem.docs_url.clone_from(&self.docs_url);
        tracing::debug!(code = problem.code(), "idempotent request refused");
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

/// Counts the handlers that run, and what is left to store.
///
/// A handler counts from its start, not only once its caller has gone: a server may have ended
/// before it drops the connection that the handler hangs on.
#[derive(Debug, Clone, Default)]
pub(crate) struct InFlight(Arc<Count>);

#[derive(Debug, Default)]
struct Count {
    running: AtomicUsize,
    none_left: Notify,
}

impl InFlight {
    /// Counts one more until the guard is dropped.
    pub(crate) fn enter(&self) -> InFlightGuard {
        self.0.running.fetch_add(1, Ordering::SeqCst);
        InFlightGuard(Arc::clone(&self.0))
    }

    async fn wait(&self) {
        loop {
            // Before the count is read, so that no end in between is missed.
            let none_left = self.0.none_left.notified();
            if self.0.running.load(Ordering::SeqCst) == 0 {
                return;
            }
            none_left.await;
        }
    }
}

#[derive(Debug)]
pub(crate) struct InFlightGuard(Arc<Count>);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.none_left.notify_waiters();
        }
    }
}
