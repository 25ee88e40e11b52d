//! One request, from the attribute to the store and back.
//!
//! [`run`] reads the key. Without one the handler runs as if the attribute were absent. With one,
//! [`protected`] buffers the body, extracts the last parameter, evaluates the attribute's
//! expressions and asks the store: the request then runs ([`claimed`]), replays or is refused.

use std::{
    future::{Future, ready},
    panic::resume_unwind,
    sync::Arc,
    time::Duration,
};

use axum::{
    BoxError, RequestExt as _,
    body::Body,
    extract::{FromRequest as _, Request},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    body::{self, Chunks, Read},
    capture::{self, Captured},
    detach::{Detach, catching_panics},
    digest::Fingerprint,
    fingerprint,
    idempotency::{Idempotency, OnStoreError, Settings},
    idempotency_key::IdempotencyKey,
    identity::{Facts, Scope},
    key,
    last_parameter::{LastParameter, Source},
    operation::{Lease, Operation},
    policy::{FingerprintSource, KeySource, Policy},
    problem::Problem,
    record::{self, DecodeError, Record},
    store::{BoxFuture, Claim, StoreError},
};

/// Extracts the last parameter and evaluates the attribute's expressions. The handler it gives has
/// not started.
type Prepare = Box<dyn FnOnce(Request) -> BoxFuture<'static, Prepared> + Send>;
type Prepared = Result<(Facts, Handler), Response>;
type Handler = BoxFuture<'static, Response>;

/// Runs an `#[idempotent]` handler, or replays its response.
///
/// `handler` binds the last parameter and evaluates the expressions where it is given a place for
/// their values; the future it returns is the user's body. `respond` is an argument of its own so
/// that the expansion can name the declared return type there: an error about it points at it.
pub(crate) fn run<E, R, F, Fut>(
    policy: &'static Policy,
    call: LastParameter<E>,
    respond: fn(R) -> Response,
    handler: F,
) -> BoxFuture<'static, Response>
where
    E: Send + 'static,
    R: 'static,
    F: FnOnce(E, Option<&mut Facts>) -> Fut + Send + 'static,
    Fut: Future<Output = R> + Send + 'static,
{
    // Whatever needs no type of the handler is in functions that are compiled once for all.
    let (request, extract) = match call.0 {
        Source::Request(request, extract) => (request, extract),
        Source::Value(value) => {
            let body = handler(value, None);
            return Box::pin(async move { respond(body.await) });
        }
    };
    match admit(policy, request) {
        Admitted::Refused(response) => response,
        Admitted::Unprotected(request) => Box::pin(async move {
            match extract(request).await {
                Ok(last) => respond(handler(last, None).await),
                Err(rejection) => rejection,
            }
        }),
        Admitted::Protected(key, request) => {
            let prepare: Prepare = Box::new(move |request| {
                Box::pin(async move {
                    let last = extract(request).await?;
                    let mut facts = Facts::default();
                    let body = handler(last, Some(&mut facts));
                    let handler: Handler = Box::pin(async move { respond(body.await) });
                    Ok((facts, handler))
                })
            });
            boxed(policy, key, request, prepare)
        }
    }
}

/// What a request's head says about it.
#[allow(clippy::large_enum_variant, reason = "lives for one move, and a box would cost more")]
enum Admitted {
    /// It has no key and needs none.
    Unprotected(Request),
    /// It has a key, or its key is an expression.
    Protected(Option<String>, Request),
    Refused(BoxFuture<'static, Response>),
}

fn admit(policy: &Policy, request: Request) -> Admitted {
    let problem = match policy.key {
        KeySource::Expression => return Admitted::Protected(None, request),
        KeySource::Header => match key::read(policy, request.headers()) {
            Ok(Some(key)) => return Admitted::Protected(Some(key), request),
            Ok(None) if policy.required => Problem::missing_key(policy.header[0]),
            Ok(None) => return Admitted::Unprotected(request),
            Err(problem) => problem,
        },
    };
    let response = Idempotency::of(request.extensions()).respond(problem);
    Admitted::Refused(Box::pin(ready(response)))
}

fn boxed(
    policy: &'static Policy,
    key: Option<String>,
    request: Request,
    prepare: Prepare,
) -> BoxFuture<'static, Response> {
    Box::pin(async move {
        match protected(policy, key, request, prepare).await {
            Ok(response) | Err(response) => response,
        }
    })
}

/// A request with a key, or one whose key is an expression. `Err` is a refusal.
async fn protected(
    policy: &'static Policy,
    header_key: Option<String>,
    request: Request,
    prepare: Prepare,
) -> Result<Response, Response> {
    let settings = Idempotency::of(request.extensions());
    let (mut request, body) = buffer(request).await?;
    let scope = Scope::of(policy, &request);
    let fingerprint = match policy.fingerprint {
        FingerprintSource::Request => Some(fingerprint::of_request(&request, &body)),
        FingerprintSource::None | FingerprintSource::Expression => None,
    };
    drop(body);
    let in_handler = IdempotencyKey::place(request.extensions_mut());
    let (facts, handler) = prepare(request).await?;
    let Some(key) = header_key.or(facts.key) else { return Ok(handler.await) };
    if key.is_empty() {
        let problem = Problem::invalid_key("The idempotency key that the request gives is empty");
        return Err(settings.respond(problem));
    }
    let store_key = scope.store_key(facts.principal.as_deref(), &key);
    in_handler.set(key, store_key);
    let fingerprint = fingerprint.or(facts.fingerprint).unwrap_or_else(fingerprint::none);
    let operation = Operation::new(settings, policy, store_key, fingerprint);
    Ok(claim_or_replay(operation, handler).await)
}

/// Reads the whole body, within Axum's `DefaultBodyLimit`.
async fn buffer(request: Request) -> Result<(Request, Bytes), Response> {
    let (parts, mut body) = request.with_limited_body().into_parts();
    match body::read(&mut body, usize::MAX).await {
        Read::Whole(chunks) => {
            let bytes = chunks.into_bytes();
            Ok((Request::from_parts(parts, Body::from(bytes.clone())), bytes))
        }
        Read::Cut(chunks, Ok(trailers)) => {
            let bytes = chunks.into_bytes();
            let chunks = Chunks::from(bytes.clone());
            let body = body::resumed(chunks, Ok(trailers), Body::empty());
            Ok((Request::from_parts(parts, body), bytes))
        }
        // Axum's own extractor knows the response to this error: 413 past the limit.
        Read::Cut(_, Err(error)) => {
            let failing = body::resumed(Chunks::default(), Err(innermost(error)), Body::empty());
            Err(Bytes::from_request(Request::new(failing), &()).await.into_response())
        }
    }
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

/// Asks the store until it says what to do: run, replay or refuse.
async fn claim_or_replay(operation: Operation, handler: Handler) -> Response {
    let mut waiting = Waiting::new(&operation);
    loop {
        match operation.claim().await {
            Ok(Claim::Claimed { lease }) => {
                let guard = operation.settings.in_flight.enter();
                return Detach::new(guard, claimed(operation, lease, handler)).await;
            }
            Ok(Claim::Running { fingerprint, lease_left }) => {
                if let Err(problem) = waiting.wait(fingerprint, lease_left).await {
                    return operation.settings.respond(problem);
                }
            }
            Ok(Claim::Stored { fingerprint, record }) => {
                return replay(&operation, fingerprint, record);
            }
            Err(error) => return without_store(&operation, &error, &waiting, handler).await,
        }
    }
}

/// The patience of one duplicate, over all runs it waits for.
struct Waiting<'a> {
    operation: &'a Operation,
    since: Option<Instant>,
    attempt: u32,
}

impl<'a> Waiting<'a> {
    fn new(operation: &'a Operation) -> Self {
        Self { operation, since: None, attempt: 0 }
    }

    fn has_begun(&self) -> bool {
        self.since.is_some()
    }

    /// Waits for the running request to end.
    async fn wait(
        &mut self,
        running: Fingerprint,
        lease_left: Option<Duration>,
    ) -> Result<(), Problem> {
        if running != self.operation.fingerprint {
            return Err(Problem::key_reused());
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let left = self.operation.policy.wait.saturating_sub(since.elapsed());
        if left.is_zero() {
            return Err(Problem::request_in_progress());
        }
        let at_most = lease_left.map_or(left, |lease_left| left.min(lease_left));
        self.operation.wait(self.attempt, at_most).await;
        self.attempt += 1;
        Ok(())
    }
}

/// Answers from a record.
fn replay(operation: &Operation, stored: Fingerprint, record: Bytes) -> Response {
    let respond = |problem| operation.settings.respond(problem);
    if stored != operation.fingerprint {
        return respond(Problem::key_reused());
    }
    match record::decode(record) {
        Ok(Record::Response(response)) => {
            tracing::debug!(key = %operation.key, "response replayed");
            capture::replayed(response)
        }
        Ok(Record::NotStored) => respond(Problem::response_not_stored()),
        Ok(Record::Unknown) => respond(Problem::outcome_unknown()),
        Err(DecodeError::UnknownVersion) => {
            tracing::warn!(key = %operation.key, "a stored response has a format of another release");
            respond(Problem::store_unavailable())
        }
        Err(DecodeError::Corrupt) => {
            tracing::error!(key = %operation.key, "a stored response is damaged");
            respond(Problem::outcome_unknown())
        }
    }
}

/// The store could not be asked.
async fn without_store(
    operation: &Operation,
    error: &StoreError,
    waiting: &Waiting<'_>,
    handler: Handler,
) -> Response {
    let settings: &Arc<Settings> = &operation.settings;
    if !error.is_logged_once() {
        tracing::error!(error = error as &dyn std::error::Error, "idempotency store unavailable");
    }
    match settings.on_store_error {
        // A duplicate that has seen a running claim would be a second run.
        OnStoreError::Execute if !waiting.has_begun() => {
            Detach::new(settings.in_flight.enter(), handler).await
        }
        OnStoreError::Execute | OnStoreError::Reject => {
            settings.respond(Problem::store_unavailable())
        }
    }
}

/// Runs the handler of a claimed key and settles the claim. Never cancelled.
async fn claimed(operation: Operation, lease: Option<Duration>, handler: Handler) -> Response {
    let lease = lease.map(|lease| operation.keep(lease));
    let (replay, max_bytes) = (operation.policy.replay, operation.settings.max_response_bytes);
    let run = async { capture::capture(replay, max_bytes, handler.await).await };
    match catching_panics(run).await {
        Ok(Captured::Kept(record, response)) => settle(operation, lease, record, response).await,
        Ok(Captured::Released(response)) => {
            operation.release().await;
            response
        }
        Err(panic) => {
            operation.release().await;
            resume_unwind(panic)
        }
    }
}

/// Stores the record, then gives the response to send.
async fn settle(
    operation: Operation,
    lease: Option<Lease>,
    record: Bytes,
    response: Response,
) -> Response {
    match operation.complete(record.clone()).await {
        Ok(true) => response,
        Ok(false) => lost(operation, record, response).await,
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "storing a response failed, trying again"
            );
            operation.complete_in_background(record, lease);
            response
        }
    }
}

/// The claim lapsed while the handler ran, so this caller is a duplicate of whoever has it now.
async fn lost(operation: Operation, record: Bytes, response: Response) -> Response {
    tracing::warn!(key = %operation.key, "an idempotency claim was lost before its response was stored");
    let mut waiting = Waiting::new(&operation);
    loop {
        match operation.claim().await {
            Ok(Claim::Claimed { .. }) => match operation.complete(record.clone()).await {
                Ok(true) => return response,
                Ok(false) => {}
                Err(_) => {
                    operation.complete_in_background(record, None);
                    return response;
                }
            },
            Ok(Claim::Running { fingerprint, lease_left }) => {
                if let Err(problem) = waiting.wait(fingerprint, lease_left).await {
                    return operation.settings.respond(problem);
                }
            }
            Ok(Claim::Stored { fingerprint, record }) => {
                return replay(&operation, fingerprint, record);
            }
            Err(_) => return response,
        }
    }
}
