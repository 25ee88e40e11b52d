//! [`RunBoundary`]: the layer that defines what belongs to a run.
//!
//! A boundary puts a [`Slot`](slot::Slot) into the request. The handler inside takes it, claims its
//! key as usual, and leaves in the slot what has to be settled. The boundary's
//! [future](RunBoundaryFuture) settles it with the response that passes, and continues if the
//! caller leaves.

mod future;
mod passing;
mod reserved;
mod slot;

use std::task::{Context, Poll};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::Request;
use tower_layer::Layer;
use tower_service::Service;

use self::{future::RunBoundaryFuture, slot::Slot};
pub(super) use self::{
    passing::{Held, Run},
    reserved::{Around, Reserved, Taken},
};

/// A layer that makes everything inside it part of the run of an `#[idempotent]` handler.
///
/// Without it a run is the handler alone: layers around it see replays, and nothing that they do
/// after the handler counts. With it
///
/// - the response that passes the boundary is what is stored and replayed: if a layer inside fails
///   to commit a transaction and answers 500, the handler's 201 is not stored;
/// - everything inside continues if the caller leaves, with the transaction, the session, the
///   permit and the task-local values that its layers hold;
/// - on a replay the layers inside see a copy of the stored response. What they make of it is
///   dropped, except for `Set-Cookie` and the other headers that are never stored.
///
/// Put it directly outside the layers that belong to the run. [What belongs to a run] says which
/// ones do:
///
/// ```
/// use axum::{Router, extract::Request, middleware::{Next, from_fn}, response::Response, routing::post};
/// use idempotent_runtime::RunBoundary;
///
/// /// Loads a session, and saves it after the handler.
/// async fn session(request: Request, next: Next) -> Response {
///     // …
///     next.run(request).await
/// }
///
/// let app: Router = Router::new()
///     .route("/cart", post(async || "2 in the cart"))
///     .layer(from_fn(session))
///     .layer(RunBoundary::new());
/// # assert!(app.has_routes());
/// ```
///
/// It belongs to the first `#[idempotent]` handler of its own request, identified by method and
/// path: requests that a handler makes itself are settled separately, and so is whatever comes
/// after the boundary has answered. If boundaries are nested, the outermost one applies. A request
/// whose handler has no key, or no attribute, passes as if the boundary were absent.
///
/// [What belongs to a run]: https://docs.rs/idempotent-axum/latest/idempotent_axum/what_belongs_to_a_run/
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct RunBoundary;

impl RunBoundary {
    /// A boundary. It has no settings: the handler's apply.
    ///
    /// ```
    /// use idempotent_runtime::RunBoundary;
    ///
    /// assert_eq!(format!("{:?}", RunBoundary::new()), "RunBoundary");
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for RunBoundary {
    type Service = RunBoundaryService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RunBoundaryService { inner }
    }
}

/// The service that the layer [`RunBoundary`] produces.
///
/// ```
/// use idempotent_runtime::{RunBoundary, RunBoundaryService};
/// use tower_layer::Layer as _;
///
/// let service: RunBoundaryService<&str> = RunBoundary::new().layer("inner");
/// assert!(format!("{service:?}").contains("inner"));
/// ```
#[derive(Debug, Clone)]
pub struct RunBoundaryService<S> {
    inner: S,
}

impl<S, RequestBody, ResponseBody> Service<Request<RequestBody>> for RunBoundaryService<S>
where
    S: Service<Request<RequestBody>, Response = http::Response<ResponseBody>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    ResponseBody::Error: Into<axum::BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = RunBoundaryFuture<S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> Self::Future {
        if Slot::is_around(&request) {
            return RunBoundaryFuture::inside_another(self.inner.call(request));
        }
        let slot = Slot::of(&request);
        request.extensions_mut().insert(slot.clone());
        RunBoundaryFuture::around(self.inner.call(request), slot)
    }
}
