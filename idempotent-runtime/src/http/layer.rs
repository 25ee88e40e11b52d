//! [`Idempotency`] as a layer: its settings travel in the request's extensions.

use std::task::{Context, Poll};

use http::Request;
use tower_layer::Layer;
use tower_service::Service;

use super::idempotency::Idempotency;

/// The service that the layer [`Idempotency`] produces: it attaches the settings to each request.
///
/// ```
/// use idempotent_runtime::{Idempotency, IdempotencyService, MemoryStore};
/// use tower_layer::Layer as _;
///
/// let service: IdempotencyService<&str> = Idempotency::new(MemoryStore::new()).layer("inner");
/// assert!(format!("{service:?}").contains("inner"));
/// ```
#[derive(Debug, Clone)]
pub struct IdempotencyService<S> {
    inner: S,
    idempotency: Idempotency,
}

impl<S> Layer<S> for Idempotency {
    type Service = IdempotencyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        self.settings.check();
        IdempotencyService { inner, idempotency: self.clone() }
    }
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for IdempotencyService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        request.extensions_mut().insert(self.idempotency.clone());
        self.inner.call(request)
    }
}
