//! [`Guarded`]: a request with a key on its way to the response: its body is read, its last
//! parameter extracted, and its key claimed or looked up.

use std::{
    future::Future as _,
    mem::{replace, take},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    BoxError,
    body::Body,
    extract::{FromRequest as _, Request},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::Method;
use tracing::Span;

#[cfg(feature = "postgres")]
use super::tx;
use super::{
    body::{self, Chunks, Read, Reader},
    boundary::Around,
    evaluated::Evaluated,
    fingerprint::Unsalted,
    handler::Handler,
    idempotency::Settings,
    identity::{Identification, Identity},
    known::Known,
    policy::Policy,
    prepared::{Answer, Prepared},
    scope::Scope,
    stored,
};
use crate::{
    engine::{Decision, Event, IdempotencyKey, Replayed},
    store::{BoxFuture, Extracted, Slot},
};

/// A request with a key, or one whose key is an expression that is yet to be evaluated.
///
/// Not an `async fn`, which would be compiled once for each handler.
pub(super) enum Guarded {
    Reading {
        head: Head,
        body: Reader,
    },
    Extracting(Prepared),
    /// It turned out to have no key, but its handler may use a transaction.
    #[cfg(feature = "postgres")]
    Unkeyed(tx::Transacted),
    Answering(Answer),
    /// The answer has been given.
    Over,
}

/// The way to the handler: the only place that knows its types.
pub(super) trait Steps {
    /// The request, until its last parameter is being extracted.
    fn request(&mut self) -> Option<&mut Request>;

    /// Extracts the last parameter, has the expressions that use it evaluated, and creates the
    /// handler.
    fn poll_handler(
        &mut self,
        evaluated: Option<&mut Evaluated>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Handler, Response>>;
}

/// What is known of a request before its body is read.
pub(super) struct Head {
    pub(super) policy: &'static Policy,
    pub(super) settings: Arc<Settings>,
    pub(super) around: Around,
    pub(super) identification: Identification,
    pub(super) known: Known,
    pub(super) extracted: Extracted,
    /// The operation's name, if something has already needed it.
    pub(super) operation: Option<Arc<str>>,
    pub(super) span: Option<Arc<Span>>,
}

/// What happened to a request after its body was read.
enum Preparation {
    Prepared(Prepared),
    /// A replay that needs no extraction.
    Answered(Response),
    Unread(BoxFuture<'static, Response>),
}

impl Guarded {
    /// Takes the body out of `request`, to read it.
    pub(super) fn new(head: Head, request: &mut Request) -> Self {
        Self::Reading { head, body: Reader::new(take(request.body_mut()), usize::MAX) }
    }

    /// The answer: the handler's response, a replay or a refusal.
    pub(super) fn poll(&mut self, last: &mut dyn Steps, cx: &mut Context<'_>) -> Poll<Response> {
        if let Self::Reading { body, .. } = self {
            let read = ready!(body.poll_read(cx));
            if let Self::Reading { head, .. } = replace(self, Self::Over) {
                let request = last.request().expect("its extraction has not begun");
                *self = match head.prepare(request, read) {
                    Preparation::Prepared(prepared) => Self::Extracting(prepared),
                    Preparation::Answered(answer) => return Poll::Ready(answer),
                    Preparation::Unread(answer) => Self::Answering(Answer::Driven(answer)),
                };
            }
        }
        if let Self::Extracting(prepared) = self {
            let handler = match ready!(last.poll_handler(prepared.evaluated(), cx)) {
                Ok(handler) => handler,
                Err(rejection) => {
                    *self = Self::Over;
                    return Poll::Ready(rejection);
                }
            };
            if let Self::Extracting(prepared) = replace(self, Self::Over) {
                *self = Self::Answering(prepared.answer(handler));
            }
        }
        #[cfg(feature = "postgres")]
        if let Self::Unkeyed(_) = self {
            let handler = match ready!(last.poll_handler(None, cx)) {
                Ok(handler) => handler,
                Err(rejection) => {
                    *self = Self::Over;
                    return Poll::Ready(rejection);
                }
            };
            if let Self::Unkeyed(transacted) = replace(self, Self::Over) {
                *self = Self::Answering(Answer::Driven(Box::pin(transacted.run(handler))));
            }
        }
        let Self::Answering(answer) = self else {
            panic!("the future was polled after completion")
        };
        Pin::new(answer).poll(cx)
    }
}

impl Head {
    /// Puts the whole body back into `request`.
    fn prepare(self, request: &mut Request, read: Read) -> Preparation {
        match read {
            Read::Whole(chunks) => self.prepare_with(request, chunks.into_bytes(), None),
            Read::Cut(chunks, trailers, rest) => {
                self.prepare_with(request, chunks.into_bytes(), Some((trailers, rest)))
            }
            Read::Failed(_, error, _) => Preparation::Unread(Box::pin(unread(error))),
        }
    }

    fn prepare_with(
        self,
        request: &mut Request,
        body: Bytes,
        cut: Option<(Option<http_body::Frame<Bytes>>, Body)>,
    ) -> Preparation {
        let Self { policy, settings, around, identification, known, extracted, .. } = self;
        let (operation, span) = (self.operation, self.span);
        let extracted = known.extraction(policy, request, extracted);
        let unsalted =
            Unsalted::from_request(policy.fingerprint, settings.digesting(), request, &body);
        let identity = match identification {
            Identification::Known { key, store_key, expression } => {
                let fingerprint = unsalted.salted(expression, &key);
                let identity = Identity { key, store_key, fingerprint };
                if let Some((response, from)) = look(&settings, &around, &identity, extracted) {
                    let (key, looked) = (Some(store_key), Decision::Replayed(from));
                    let event = Event::decided(operation.as_deref(), key, looked);
                    let status = Some(response.status().as_u16());
                    settings.engine.tell(span.as_deref(), &event.with_status(status));
                    return Preparation::Answered(response);
                }
                Ok(identity)
            }
            Identification::Unevaluated(mut unevaluated) => {
                unevaluated.unsalted = Some(unsalted);
                Err(unevaluated)
            }
        };
        let body_bytes = body.len();
        *request.body_mut() = match cut {
            None => Body::from(body),
            Some((trailers, rest)) => body::resumed(Chunks::from(body), trailers.map(Ok), rest),
        };
        Preparation::Prepared(Prepared {
            key_place: match known {
                Known::No => Some(IdempotencyKey::place(request.extensions_mut())),
                // The last parameter does not look for the key; those before it have done so by
                // now.
                Known::Json | Known::Plain => IdempotencyKey::taken_place(request.extensions()),
            },
            transaction: transaction(&settings, known, request),
            operation: operation.or_else(|| Scope::from_request(policy, request).name()),
            span,
            is_connect: request.method() == Method::CONNECT,
            body_bytes,
            policy,
            settings,
            around,
            identity,
            extracted,
        })
    }
}

/// Where the handler finds its transaction, if a parameter before the last has asked for one or the
/// last one may.
#[cfg(feature = "postgres")]
fn transaction(settings: &Settings, known: Known, request: &mut Request) -> Option<Slot> {
    settings.engine.store.transactional()?;
    tx::Place::of_request(known, request.extensions_mut())
}

#[cfg(not(feature = "postgres"))]
fn transaction(_: &Settings, _: Known, _: &mut Request) -> Option<Slot> {
    None
}

/// The replay of a response that this process holds and that needs no extraction.
fn look(
    settings: &Settings,
    around: &Around,
    identity: &Identity,
    extracted: Option<Extracted>,
) -> Option<(Response, Replayed)> {
    let Identity { store_key, fingerprint, .. } = *identity;
    let (answer, from) = settings.engine.look(store_key, fingerprint, extracted?)?;
    around.replays(&answer);
    let response = stored::decode(answer)?;
    Some((stored::replay(response), from))
}

/// The response to an unreadable body, as Axum's own extractor gives it: 413 past the limit.
async fn unread(error: axum::Error) -> Response {
    let failing = body::resumed(Chunks::default(), Some(Err(innermost(error))), Body::empty());
    Bytes::from_request(Request::new(failing), &()).await.into_response()
}

/// The root cause of `error`: every layer of body wraps it once more, and Axum only looks so deep.
fn innermost(error: axum::Error) -> BoxError {
    let mut error = error.into_inner();
    loop {
        match error.downcast::<axum::Error>() {
            Ok(wrapper) => error = wrapper.into_inner(),
            Err(cause) => return cause,
        }
    }
}
