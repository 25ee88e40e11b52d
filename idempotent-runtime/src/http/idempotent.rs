//! [`Idempotent`]: the extractor that replaces a handler's last parameter.
//!
//! Axum runs a handler's extractors in order, and only the last one sees the body. `Idempotent<E>`
//! stands in for the last parameter `E`: it keeps the request and the means to extract `E` from it,
//! so that the runtime can read the key before the body, and extract `E` afterwards or not at all.

use std::{
    convert::Infallible,
    fmt,
    future::{Future, ready},
    marker::PhantomData,
    mem::replace,
    task::{Context, Poll},
};

use axum::{
    extract::{FromRequest, Request},
    response::{IntoResponse, Response},
};

use super::{
    evaluated::Evaluated,
    handler,
    known::{Known, Probe},
    policy::Policy,
};
use crate::store::BoxFuture;

/// The last parameter of an `#[idempotent]` handler, not yet extracted.
/// The attribute puts it into the handler's signature in place of the last parameter, so it shows
/// up in compiler messages and in the handler's documentation. It is an extractor if `E` is one; a
/// handler without parameters takes `Idempotent<()>`.
///
/// A test that calls a handler directly converts the value itself with `.into()`; the handler then
/// runs without a key and returns a [`Response`].
///
/// ```
/// use idempotent_runtime::Idempotent;
///
/// let body: Idempotent<String> = "hello".to_owned().into();
/// assert_eq!(format!("{body:?}"), "Idempotent { .. }");
/// ```
pub struct Idempotent<E>(pub(super) Source<E>);

/// Where the last parameter comes from.
pub(super) enum Source<E> {
    /// A direct call: there is a value and no request.
    Value(E),
    /// A call by Axum.
    Request(Box<dyn Extract<E>>),
    /// It is being extracted.
    Extraction(BoxFuture<'static, Result<E, Response>>),
    /// It has been handed over.
    Taken,
}

/// A request, and the means to extract `E` from it.
pub(super) trait Extract<E>: Send {
    fn request(&mut self) -> &mut Request;

    fn extract(self: Box<Self>) -> BoxFuture<'static, Result<E, Response>>;
}

impl<E> Source<E> {
    /// The request, unless its extraction has begun; a direct call has none.
    pub(super) fn request(&mut self) -> Option<&mut Request> {
        match self {
            Self::Request(pending) => Some(pending.request()),
            _ => None,
        }
    }

    /// Extracts the parameter.
    pub(super) fn poll_extract(&mut self, cx: &mut Context<'_>) -> Poll<Result<E, Response>> {
        loop {
            *self = match replace(self, Self::Taken) {
                Self::Value(value) => return Poll::Ready(Ok(value)),
                Self::Request(pending) => Self::Extraction(pending.extract()),
                Self::Extraction(mut extraction) => match extraction.as_mut().poll(cx) {
                    Poll::Ready(extracted) => return Poll::Ready(extracted),
                    Poll::Pending => {
                        *self = Self::Extraction(extraction);
                        return Poll::Pending;
                    }
                },
                Self::Taken => panic!("a parameter is extracted once"),
            }
        }
    }
}

/// The marker that makes [`Idempotent<E>`] an extractor whenever `E` is one via `M`.
pub struct Via<M>(PhantomData<M>);

impl<S, E, M> FromRequest<S, Via<M>> for Idempotent<E>
where
    S: Clone + Send + Sync + 'static,
    E: FromRequest<S, M> + Send + 'static,
    M: 'static,
{
    type Rejection = Infallible;

    fn from_request(
        request: Request,
        state: &S,
    ) -> impl Future<Output = Result<Self, Self::Rejection>> + Send {
        let pending = Pending { request, state: state.clone(), via: PhantomData::<fn() -> M> };
        ready(Ok(Self(Source::Request(Box::new(pending)))))
    }
}

/// An extraction that has not begun, with the handler's state.
struct Pending<S, M> {
    request: Request,
    state: S,
    via: PhantomData<fn() -> M>,
}

impl<S, E, M> Extract<E> for Pending<S, M>
where
    S: Send + Sync + 'static,
    E: FromRequest<S, M>,
    M: 'static,
{
    fn request(&mut self) -> &mut Request {
        &mut self.request
    }

    fn extract(self: Box<Self>) -> BoxFuture<'static, Result<E, Response>> {
        Box::pin(async move {
            let Self { request, state, .. } = *self;
            E::from_request(request, &state).await.map_err(IntoResponse::into_response)
        })
    }
}

impl<E> Idempotent<E> {
    /// What is known about the type of the last parameter: `probe().known()`.
    #[doc(hidden)]
    pub fn probe(&self) -> Probe<E> {
        Probe::new()
    }
}

impl<E: Send + 'static> Idempotent<E> {
    /// Runs the handler or replays its response; called by the attribute's expansion. It is a
    /// method of this type so that compiler errors about a body that is not [`Send`] name no hidden
    /// item.
    #[doc(hidden)]
    pub fn run<R, F, G, Fut>(
        self,
        policy: &'static Policy,
        known: Known,
        respond: fn(R) -> Response,
        handler: F,
    ) -> BoxFuture<'static, Response>
    where
        R: 'static,
        F: FnOnce(Option<&mut Evaluated>) -> G + Send + 'static,
        G: FnOnce(E, Option<&mut Evaluated>) -> Fut + Send + 'static,
        Fut: Future<Output = R> + Send + 'static,
    {
        handler::run(policy, known, self, respond, handler)
    }
}

impl<E> From<E> for Idempotent<E> {
    fn from(value: E) -> Self {
        Self(Source::Value(value))
    }
}

impl<E> fmt::Debug for Idempotent<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotent").finish_non_exhaustive()
    }
}

impl<M> fmt::Debug for Via<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Via")
    }
}
