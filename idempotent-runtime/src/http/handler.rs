//! One request, from the attribute to the store and back.
//!
//! [`run`] admits it: the key is read, and the expressions that can be are evaluated. A request
//! without a key then runs as if the attribute were absent. One with a key is [`guarded`]: its body
//! is read, its last parameter extracted, and it runs or is replayed as the engine decides.
//!
//! A future has room for all its arguments and locals, and beyond a kibibyte glibc allocates
//! slowly: rare things are boxed, and large ones held once.

use std::{
    any::TypeId,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{extract::Request, response::Response};
use pin_project_lite::pin_project;
use tracing::Span;

#[cfg(feature = "testing")]
use super::origin::Origin;
use super::{
    admission::{Admission, Admitted, admit},
    boundary::Taken,
    evaluated::Evaluated,
    guarded::{Guarded, Steps},
    idempotent::{Idempotent, Source},
    known::Known,
    policy::Policy,
};
use crate::store::BoxFuture;

/// A handler that has not started.
pub(super) type Handler = BoxFuture<'static, Response>;

/// Runs an `#[idempotent]` handler, or replays its response.
///
/// If the expressions are to be evaluated before the last parameter is extracted, `handler` gets a
/// place for their values. It returns a closure that takes the parameter, and such a place if they
/// are to be evaluated only then; that closure returns the user's body as a future. `respond` is a
/// separate argument so that the expansion can name the declared return type there: errors about
/// the type point at it.
pub(super) fn run<E, R, F, G, Fut>(
    policy: &'static Policy,
    known: Known,
    last: Idempotent<E>,
    respond: fn(R) -> Response,
    handler: F,
) -> BoxFuture<'static, Response>
where
    E: Send + 'static,
    R: 'static,
    F: FnOnce(Option<&mut Evaluated>) -> G + Send + 'static,
    G: FnOnce(E, Option<&mut Evaluated>) -> Fut + Send + 'static,
    Fut: Future<Output = R> + Send + 'static,
{
    // All of this is compiled for each handler: whatever does not need its types is elsewhere.
    let mut source = last.0;
    let Some(request) = source.request() else {
        let last = Last { source, start: Some(handler(None)), respond };
        return Box::pin(Unguarded::Extracting { last });
    };
    let mut evaluated = Evaluated::default();
    let boundary = Taken::from_request(request);
    let admission = match Admission::from_request(policy, request) {
        Ok(admission) => admission,
        Err(refusal) => return refusal,
    };
    let start = handler(admission.is_evaluated_now(policy).then_some(&mut evaluated));
    let admitted = admit(policy, boundary, admission, &evaluated, known, TypeId::of::<E>, request);
    let last = Last { source, start: Some(start), respond };
    match admitted {
        Admitted::Unguarded => Box::pin(Unguarded::Extracting { last }),
        Admitted::Guarded(guarded, span) => Box::pin(Run { guarded, last, span }),
        Admitted::Refused(refusal) => refusal,
    }
}

/// The last parameter, and the closure that takes it.
struct Last<E, R, G> {
    source: Source<E>,
    /// `None` once it is extracted.
    start: Option<G>,
    respond: fn(R) -> Response,
}

impl<E, R, G> Last<E, R, G> {
    /// Extracts the parameter, has the expressions that use it evaluated, and returns the handler's
    /// body.
    fn poll_body<Fut>(
        &mut self,
        evaluated: Option<&mut Evaluated>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Fut, Response>>
    where
        G: FnOnce(E, Option<&mut Evaluated>) -> Fut,
    {
        let last = match ready!(self.source.poll_extract(cx)) {
            Ok(last) => last,
            Err(rejection) => return Poll::Ready(Err(rejection)),
        };
        let start = self.start.take().expect("a parameter is extracted once");
        Poll::Ready(Ok(start(last, evaluated)))
    }
}

pin_project! {
    /// A request without a key, or a direct call. Of a request with a key, what is left once its
    /// last parameter has been extracted.
    #[project = Stage]
    enum Unguarded<E, R, G, Fut> {
        Extracting { last: Last<E, R, G> },
        Running { #[pin] body: Fut, respond: fn(R) -> Response },
    }
}

impl<E, R, G, Fut> Future for Unguarded<E, R, G, Fut>
where
    G: FnOnce(E, Option<&mut Evaluated>) -> Fut,
    Fut: Future<Output = R>,
{
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        loop {
            let running = match self.as_mut().project() {
                Stage::Running { body, respond } => {
                    let response = body.poll(cx).map(*respond);
                    #[cfg(feature = "testing")]
                    let response = response.map(|mut response| {
                        response.extensions_mut().insert(Origin::Handler);
                        response
                    });
                    return response;
                }
                Stage::Extracting { last } => match ready!(last.poll_body(None, cx)) {
                    Ok(body) => Self::Running { body, respond: last.respond },
                    Err(rejection) => return Poll::Ready(rejection),
                },
            };
            self.set(running);
        }
    }
}

/// A request with a key, or one whose key is an expression.
struct Run<E, R, G> {
    guarded: Guarded,
    last: Last<E, R, G>,
    span: Option<Arc<Span>>,
}

/// Nothing in it is pinned: whatever has to be is behind a pointer.
impl<E, R, G> Unpin for Run<E, R, G> {}

impl<E, R, G, Fut> Future for Run<E, R, G>
where
    E: Send + 'static,
    R: 'static,
    G: FnOnce(E, Option<&mut Evaluated>) -> Fut + Send + 'static,
    Fut: Future<Output = R> + Send + 'static,
{
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        let Self { guarded, last, span } = &mut *self;
        let _entered = span.as_deref().map(Span::enter);
        guarded.poll(last, cx)
    }
}

impl<E, R, G, Fut> Steps for Last<E, R, G>
where
    E: Send + 'static,
    R: 'static,
    G: FnOnce(E, Option<&mut Evaluated>) -> Fut + Send + 'static,
    Fut: Future<Output = R> + Send + 'static,
{
    fn request(&mut self) -> Option<&mut Request> {
        self.source.request()
    }

    fn poll_handler(
        &mut self,
        evaluated: Option<&mut Evaluated>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Handler, Response>> {
        self.poll_body(evaluated, cx).map_ok(|body| -> Handler {
            Box::pin(Unguarded::<E, R, G, Fut>::Running { body, respond: self.respond })
        })
    }
}
