//! [`Arrival`]: a request with a key, whose body is read and which gets its names.

use std::{future::poll_fn, mem::take, sync::Arc};

use axum::{
    BoxError,
    body::Body,
    extract::{FromRequest as _, Request},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::Method;

use super::{
    asked::Asked,
    body::{self, Chunks, Read, Reader},
    evaluated::Evaluated,
    fingerprint::Unsalted,
    idempotency::Settings,
    idempotency_key::IdempotencyKey,
    key::Key,
    known::Known,
    policy::Policy,
    problem::Problem,
    scope::{Scope, store_key},
    stored,
};
use crate::{
    engine::{
        Digest, Fields,
        record::{self, Record},
    },
    store::{Extracted, Fingerprint, StoreKey},
};

/// A request with a key, or one whose key is an expression that is still to be evaluated.
pub(super) struct Arrival {
    pub(super) policy: &'static Policy,
    pub(super) settings: Arc<Settings>,
    pub(super) naming: Naming,
    pub(super) known: Known,
    pub(super) extracted: Extracted,
}

/// What became of a request whose body was read.
pub(super) enum Received {
    Asked(Asked),
    /// A refusal, or a replay that needs no extraction.
    Answered(Response),
}

/// How far a request is named: what its head says, and its expressions.
pub(super) enum Naming {
    Known {
        key: Key,
        store_key: StoreKey,
        expression: Option<Digest>,
    },
    /// Its expressions use the last parameter. Boxed, because it is rare and large.
    Open(Box<Open>),
}

/// What is known of a request's names before its expressions are evaluated.
pub(super) struct Open {
    /// From the header.
    key: Option<Key>,
    scope: Fields,
    /// Of the body, once it is read.
    unsalted: Option<Unsalted>,
    pub(super) evaluated: Evaluated,
}

/// A request's names: digests, and its raw key for the handler.
pub(super) struct Names {
    pub(super) key: Key,
    pub(super) store_key: StoreKey,
    pub(super) fingerprint: Fingerprint,
}

impl Naming {
    pub(super) fn open(key: Option<Key>, scope: Fields) -> Self {
        let evaluated = Evaluated::default();
        Self::Open(Box::new(Open { key, scope, unsalted: None, evaluated }))
    }
}

impl Open {
    /// The names, now that the expressions are evaluated; `None` if there is no key.
    ///
    /// # Errors
    ///
    /// Returns the problem if the key is empty.
    pub(super) fn names(self) -> Result<Option<Names>, Problem> {
        let Self { key, mut scope, unsalted, evaluated } = self;
        let (Some(key), Some(unsalted)) = (evaluated.key_or(key)?, unsalted) else {
            return Ok(None);
        };
        let store_key = store_key(&mut scope, evaluated.principal_text(), &key);
        let fingerprint = unsalted.salted(evaluated.fingerprint, &key);
        Ok(Some(Names { key, store_key, fingerprint }))
    }
}

impl Arrival {
    /// Reads the whole body and gives it back to `request`.
    pub(super) async fn receive(self, request: &mut Request) -> Received {
        let mut body = Reader::new(take(request.body_mut()), usize::MAX);
        match poll_fn(|cx| body.poll_read(cx)).await {
            Read::Whole(chunks) => self.received(request, chunks.into_bytes(), None),
            Read::Cut(chunks, trailers, rest) => {
                self.received(request, chunks.into_bytes(), Some((trailers, rest)))
            }
            Read::Failed(_, error, _) => Received::Answered(Box::pin(unread(error)).await),
        }
    }

    fn received(
        self,
        request: &mut Request,
        body: Bytes,
        cut: Option<(Option<http_body::Frame<Bytes>>, Body)>,
    ) -> Received {
        let Self { policy, settings, naming, known, extracted } = self;
        let extracted = known.extraction(policy, request, extracted);
        let unsalted =
            Unsalted::of_request(policy.fingerprint, settings.digesting(), request, &body);
        let naming = match naming {
            Naming::Known { key, store_key, expression } => {
                let fingerprint = unsalted.salted(expression, &key);
                let names = Names { key, store_key, fingerprint };
                if let Some(response) = look(&settings, &names, extracted) {
                    return Received::Answered(response);
                }
                Ok(names)
            }
            Naming::Open(mut open) => {
                open.unsalted = Some(unsalted);
                Err(open)
            }
        };
        *request.body_mut() = match cut {
            None => Body::from(body),
            Some((trailers, rest)) => body::resumed(Chunks::from(body), trailers.map(Ok), rest),
        };
        Received::Asked(Asked {
            key_place: match known {
                Known::No => Some(IdempotencyKey::place(request.extensions_mut())),
                // The last parameter does not look for it; those before it have by now.
                Known::Json | Known::Plain => IdempotencyKey::taken_place(request.extensions()),
            },
            operation: settings.operation(Scope::of_request(policy, request)),
            is_connect: request.method() == Method::CONNECT,
            policy,
            settings,
            naming,
            extracted,
        })
    }
}

/// The replay of a response that this process holds, and that needs no extraction.
fn look(settings: &Settings, names: &Names, extracted: Option<Extracted>) -> Option<Response> {
    let Names { store_key, fingerprint, .. } = *names;
    let record = settings.engine.store.look(store_key, fingerprint, extracted?)?;
    let Ok(Record::Answer(answer)) = record::open(record, true) else { return None };
    let response = stored::decode(answer)?;
    tracing::debug!(key = %store_key, "response replayed");
    Some(stored::replay(response))
}

/// The response to a body that cannot be read, which Axum's own extractor knows: 413 past the limit.
async fn unread(error: axum::Error) -> Response {
    let failing = body::resumed(Chunks::default(), Some(Err(innermost(error))), Body::empty());
    Bytes::from_request(Request::new(failing), &()).await.into_response()
}

/// The cause of `error`: every layer of body wraps it once more, and Axum looks only so deep.
fn innermost(error: axum::Error) -> BoxError {
    let mut error = error.into_inner();
    loop {
        match error.downcast::<axum::Error>() {
            Ok(wrapper) => error = wrapper.into_inner(),
            Err(cause) => return cause,
        }
    }
}
