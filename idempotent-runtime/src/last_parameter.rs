//! [`Idempotent`]: the extractor that takes the place of a handler's last parameter.
//!
//! Axum runs a handler's extractors in order, and only the last one sees the body.
//! `Idempotent<E>` stands in for the last parameter `E`: it keeps the request and the way to
//! extract `E` from it, so that the runtime can validate the key before the body is read, and
//! extract `E` afterwards.

use std::{
    convert::Infallible,
    fmt,
    future::{Future, ready},
    marker::PhantomData,
    ops::Deref,
};

use axum::{
    Json,
    extract::{FromRequest, Request},
    response::{IntoResponse, Response},
};

use bytes::Bytes;

use crate::{execute, identity::Evaluated, policy::Policy, store::BoxFuture};

/// The last parameter of an `#[idempotent]` handler, not yet extracted.
///
/// The attribute writes it in the handler's signature, in the place of the last parameter, so it is
/// seen there in the compiler's messages and in a handler's documentation. It is an extractor where
/// `E` is one; a handler without parameters takes `Idempotent<()>`.
///
/// A test that calls a handler directly makes one from the value itself, with `.into()`; the
/// handler then runs without a key.
pub struct Idempotent<E>(pub(crate) Source<E>);

pub(crate) enum Source<E> {
    /// A direct call: the value is there, and no request.
    Value(E),
    /// A call by Axum.
    Request(Box<dyn Extract<E>>),
}

/// A request, and the way to extract `E` from it.
pub(crate) trait Extract<E>: Send {
    fn request(&mut self) -> &mut Request;

    fn extract(self: Box<Self>) -> BoxFuture<'static, Result<E, Response>>;
}

/// The marker by which [`Idempotent<E>`] is an extractor wherever `E` is one via `M`.
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
    /// What is known of `E` where the handler is written.
    #[doc(hidden)]
    pub fn probe(&self) -> Probe<E> {
        Probe(Unknown, PhantomData)
    }
}

impl<E: Send + 'static> Idempotent<E> {
    /// Runs the handler, or replays its response: what the attribute's expansion calls. A method
    /// here, so that the compiler names no hidden item where a handler's body is not [`Send`].
    #[doc(hidden)]
    pub fn run<R, F, G, Fut>(
        self,
        policy: &'static Policy,
        _known: Known,
        respond: fn(R) -> Response,
        handler: F,
    ) -> BoxFuture<'static, Response>
    where
        R: 'static,
        F: FnOnce(Option<&mut Evaluated>) -> G + Send + 'static,
        G: FnOnce(E, Option<&mut Evaluated>) -> Fut + Send + 'static,
        Fut: Future<Output = R> + Send + 'static,
    {
        execute::run(policy, self, respond, |last, mut evaluated: Option<&mut Evaluated>| {
            handler(evaluated.as_deref_mut())(last, evaluated)
        })
    }
}

/// What is known of the last parameter's type where the handler is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    No,
    /// It is axum's `Json`.
    Json,
    /// It is a `String` or `Bytes`.
    Text,
}

/// Asked for what is [`Known`]: an inherent method answers for the types it is there for, and the
/// one that this dereferences to for all others.
pub struct Probe<E>(Unknown, PhantomData<fn() -> E>);

/// Says that nothing is known.
#[derive(Debug)]
pub struct Unknown;

impl<T> Probe<Json<T>> {
    /// What is known.
    #[must_use]
    pub fn known(&self) -> Known {
        Known::Json
    }
}

impl Probe<String> {
    /// What is known.
    #[must_use]
    pub fn known(&self) -> Known {
        Known::Text
    }
}

impl Probe<Bytes> {
    /// What is known.
    #[must_use]
    pub fn known(&self) -> Known {
        Known::Text
    }
}

impl Unknown {
    /// Nothing is known.
    #[must_use]
    #[expect(clippy::unused_self, reason = "it answers for the probe that dereferences to it")]
    pub fn known(&self) -> Known {
        Known::No
    }
}

impl<E> Deref for Probe<E> {
    type Target = Unknown;

    fn deref(&self) -> &Unknown {
        &self.0
    }
}

impl<E> fmt::Debug for Probe<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
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
