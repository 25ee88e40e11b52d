//! [`Guarded`]: a request with a key, whose body is read.

use std::{future::poll_fn, mem::take, sync::Arc};

use axum::{
    BoxError,
    body::Body,
    extract::{FromRequest as _, Request},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::Method;

#[cfg(feature = "postgres")]
use super::tx;
use super::{
    body::{self, Chunks, Read, Reader},
    fingerprint::Unsalted,
    idempotency::Settings,
    idempotency_key::IdempotencyKey,
    identity::{Identification, Identity},
    known::Known,
    policy::Policy,
    prepared::Prepared,
    scope::Scope,
    stored,
};
use crate::{
    engine::record::{self, Record},
    store::{Extracted, Slot},
};

/// A request with a key, or one whose key is an expression that is still to be evaluated.
pub(super) struct Guarded {
    pub(super) policy: &'static Policy,
    pub(super) settings: Arc<Settings>,
    pub(super) identification: Identification,
    pub(super) known: Known,
    pub(super) extracted: Extracted,
}

/// What became of a request whose body was read.
pub(super) enum Preparation {
    Prepared(Prepared),
    /// A refusal, or a replay that needs no extraction.
    Answered(Response),
}

impl Guarded {
    /// Reads the whole body and gives it back to `request`.
    pub(super) async fn prepare(self, request: &mut Request) -> Preparation {
        let mut body = Reader::new(take(request.body_mut()), usize::MAX);
        match poll_fn(|cx| body.poll_read(cx)).await {
            Read::Whole(chunks) => self.prepare_with(request, chunks.into_bytes(), None),
            Read::Cut(chunks, trailers, rest) => {
                self.prepare_with(request, chunks.into_bytes(), Some((trailers, rest)))
            }
            Read::Failed(_, error, _) => Preparation::Answered(Box::pin(unread(error)).await),
        }
    }

    fn prepare_with(
        self,
        request: &mut Request,
        body: Bytes,
        cut: Option<(Option<http_body::Frame<Bytes>>, Body)>,
    ) -> Preparation {
        let Self { policy, settings, identification, known, extracted } = self;
        let extracted = known.extraction(policy, request, extracted);
        let unsalted =
            Unsalted::from_request(policy.fingerprint, settings.digesting(), request, &body);
        let identity = match identification {
            Identification::Known { key, store_key, expression } => {
                let fingerprint = unsalted.salted(expression, &key);
                let identity = Identity { key, store_key, fingerprint };
                if let Some(response) = look(&settings, &identity, extracted) {
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
                // The last parameter does not look for it; those before it have by now.
                Known::Json | Known::Plain => IdempotencyKey::taken_place(request.extensions()),
            },
            transaction: transaction(&settings, known, request),
            operation: settings.operation(Scope::from_request(policy, request)),
            is_connect: request.method() == Method::CONNECT,
            body_bytes,
            policy,
            settings,
            identity,
            extracted,
        })
    }
}

/// Where the handler finds its transaction, if it may look for one: its parameters before the last
/// have, or the last may.
#[cfg(feature = "postgres")]
fn transaction(settings: &Settings, known: Known, request: &mut Request) -> Option<Slot> {
    settings.engine.store.transactional()?;
    tx::Place::of_request(known, request.extensions_mut())
}

#[cfg(not(feature = "postgres"))]
fn transaction(_: &Settings, _: Known, _: &mut Request) -> Option<Slot> {
    None
}

/// The replay of a response that this process holds, and that needs no extraction.
fn look(
    settings: &Settings,
    identity: &Identity,
    extracted: Option<Extracted>,
) -> Option<Response> {
    let Identity { store_key, fingerprint, .. } = *identity;
    let record = settings.engine.store.look(store_key, fingerprint, extracted?)?;
    let Ok(Record::Answer(answer)) = record::open(record, true) else { return None };
    let response = stored::decode(answer)?;
    tracing::debug!(key = %store_key, "response replayed, its request not extracted again");
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
