//! [`Arrival`]: a request with a key, whose body is read and which gets its name.

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
    asked::{Asked, Naming},
    body::{self, Chunks, Read, Reader},
    evaluated::Evaluated,
    idempotency::Settings,
    idempotency_key::IdempotencyKey,
    identity::Identity,
    key::Key,
    known::Known,
    policy::{Policy, Stage},
    scope::Scope,
    stored,
};
use crate::{
    engine::record::{self, Record},
    store::Extracted,
};

/// A request with a key, or one whose key is an expression that is still to be evaluated.
pub(super) struct Arrival {
    pub(super) policy: &'static Policy,
    pub(super) settings: Arc<Settings>,
    /// From the header, or from an expression.
    pub(super) key: Option<Key>,
    pub(super) evaluated: Evaluated,
    pub(super) known: Known,
    /// How the last parameter is extracted, if a replay may do without.
    pub(super) extracted: Option<Extracted>,
}

impl Arrival {
    /// Reads the whole body and gives it back to `request`. `Err` is the answer already: a refusal,
    /// or a replay that needs no extraction.
    pub(super) async fn receive(self, request: &mut Request) -> Result<Asked, Response> {
        let mut body = Reader::new(take(request.body_mut()), usize::MAX);
        let (bytes, cut) = match poll_fn(|cx| body.poll_read(cx)).await {
            Read::Whole(chunks) => (chunks.into_bytes(), None),
            Read::Cut(chunks, trailers, rest) => (chunks.into_bytes(), Some((trailers, rest))),
            Read::Failed(_, error, _) => return Err(Box::pin(unread(error)).await),
        };
        let identity = Identity::of(self.policy, self.settings.digesting(), request, &bytes);
        let naming = match (self.policy.evaluated, self.key) {
            (Stage::BeforeExtraction, Some(key)) => {
                Naming::Done(identity.name(key, &self.evaluated))
            }
            (_, key) => Naming::Open { key, identity: Box::new(identity) },
        };
        if let (Some(extracted), Naming::Done(named)) = (self.extracted, &naming)
            && let Some(record) =
                self.settings.engine.store.look(named.store_key, named.fingerprint, extracted)
            && let Ok(Record::Answer(answer)) = record::open(record, true)
            && let Some(response) = stored::decode(answer)
        {
            tracing::debug!(key = %named.store_key, "response replayed");
            return Err(stored::replay(response));
        }
        *request.body_mut() = match cut {
            None => Body::from(bytes),
            Some((trailers, rest)) => body::resumed(Chunks::from(bytes), trailers.map(Ok), rest),
        };
        Ok(Asked {
            key_place: match self.known {
                Known::No => Some(IdempotencyKey::place(request.extensions_mut())),
                // The last parameter does not look for it; those before it have by now.
                Known::Json | Known::Plain => IdempotencyKey::taken_place(request.extensions()),
            },
            operation: Scope::of_request(self.policy, request).name(),
            is_connect: request.method() == Method::CONNECT,
            policy: self.policy,
            settings: self.settings,
            naming,
            evaluated: self.evaluated,
            extracted: self.extracted,
        })
    }
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
