//! One request, from the attribute to the store and back.
//!
//! [`run`] reads the key. Without one the handler runs as if the attribute were absent. With one,
//! [`protected`] buffers the body, extracts the last parameter, evaluates the attribute's
//! expressions and asks the store: the request then runs ([`claimed`]), replays or is refused.
//!
//! A future's arguments and locals all take room in it, and beyond a kibibyte glibc allocates
//! slowly: what is rare is boxed, and what is large is held once.

use std::{
    future::{self, Future, poll_fn},
    mem::take,
    panic::resume_unwind,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
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
    body::{self, Chunks, Read, Reader},
    capture::{self, Captured},
    detach::{Detach, catching_panics},
        fingerprint,
    idempotency::{Idempotency, OnStoreError, Settings},
    idempotency_key::IdempotencyKey,
    identity::{Facts, Scope},
    key,
    last_parameter::{Extract, LastParameter, Source},
    operation::Operation,
    policy::{FingerprintSource, KeySource, Policy},
    problem::Problem,
    record::{self, DecodeError, Record},
    store::{BoxFuture, Claim, Fingerprint, Hold, StoreError},
};

/// A handler that has not started.
pub(crate) type Handler = BoxFuture<'static, Response>;
/// Makes the handler of its last parameter, and evaluates the attribute's expressions.
type Start<E> = Box<dyn FnOnce(E, &mut Facts) -> Handler + Send>;

/// Runs an `#[idempotent]` handler, or replays its response.
///
/// `handler` binds the last parameter and evaluates the expressions where it is given a place for
/// their values; the future it returns is the user's body. `respond` is an argument of its own so
/// that the expansion can name the declared return type there: an error about it points at it.
pub(crate) fn run<E, R, F, Fut>(
    policy: &'static Policy,
    last: LastParameter<E>,
    respond: fn(R) -> Response,
    handler: F,
) -> BoxFuture<'static, Response>
where
    E: Send + 'static,
    R: 'static,
    F: FnOnce(E, Option<&mut Facts>) -> Fut + Send + 'static,
    Fut: Future<Output = R> + Send + 'static,
{
    // Little is compiled for each handler: the rest needs its types no more.
    let extraction: BoxFuture<'static, Result<E, Response>> = match last.0 {
        Source::Value(value) => Box::pin(future::ready(Ok(value))),
        Source::Request(mut extract) => match admit(policy, extract.request()) {
            Admitted::Unprotected => extract.extract(),
            Admitted::Refused(response) => return response,
            Admitted::Protected(arrival) => {
                let start = move |last, facts: &mut Facts| -> Handler {
                    let body = handler(last, Some(facts));
                    Box::pin(async move { respond(body.await) })
                };
                return protected(arrival, extract, Box::new(start));
            }
        },
    };
    Box::pin(async move {
        match extraction.await {
            Ok(last) => respond(handler(last, None).await),
            Err(rejection) => rejection,
        }
    })
}

/// A request with a key, or one whose key is an expression.
fn protected<E: Send + 'static>(
    mut arrival: Arrival,
    mut extract: Box<dyn Extract<E>>,
    start: Start<E>,
) -> BoxFuture<'static, Response> {
    Box::pin(async move {
        let asked = match poll_fn(|cx| arrival.poll_read(extract.request(), cx)).await {
            Ok(asked) => asked,
            Err(refusal) => return refusal.await,
        };
        let last = match extract.extract().await {
            Ok(last) => last,
            Err(rejection) => return rejection,
        };
        let mut facts = Facts::default();
        let handler = start(last, &mut facts);
        answer(asked, facts, handler).await
    })
}

/// What a request's head says about it.
enum Admitted {
    /// It has no key and needs none.
    Unprotected,
    /// It has a key, or its key is an expression.
    Protected(Arrival),
    Refused(BoxFuture<'static, Response>),
}

fn admit(policy: &'static Policy, request: &mut Request) -> Admitted {
    let problem = match policy.key {
        KeySource::Expression => return Admitted::Protected(Arrival::new(policy, None, request)),
        KeySource::Header => match key::read(policy, request.headers()) {
            Ok(Some(key)) => {
                return Admitted::Protected(Arrival::new(policy, Some(key), request));
            }
            Ok(None) if policy.required => Problem::missing_key(&policy.header_names()[0]),
            Ok(None) => return Admitted::Unprotected,
            Err(problem) => problem,
        },
    };
    let response = Idempotency::of(request.extensions()).respond(problem);
    Admitted::Refused(Box::pin(future::ready(response)))
}

/// A request with a key, or one whose key is an expression, its body not read yet.
struct Arrival {
    policy: &'static Policy,
    /// From the header.
    key: Option<String>,
    /// Within Axum's `DefaultBodyLimit`.
    body: Reader,
}

/// What is known of a request before the last parameter is extracted.
struct Asked {
    policy: &'static Policy,
    settings: Arc<Settings>,
    key: Option<String>,
    scope: Scope,
    /// `None` where the attribute has an expression for it.
    fingerprint: Option<Fingerprint>,
    in_handler: IdempotencyKey,
}

impl Arrival {
    /// Takes the body of `request`.
    fn new(policy: &'static Policy, key: Option<String>, request: &mut Request) -> Self {
        *request = take(request).with_limited_body();
        Self { policy, key, body: Reader::new(take(request.body_mut()), usize::MAX) }
    }

    /// Reads the whole body and gives it back to `request`. `Err` is a refusal.
    fn poll_read(
        &mut self,
        request: &mut Request,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Asked, BoxFuture<'static, Response>>> {
        Poll::Ready(match ready!(self.body.poll_read(cx)) {
            Read::Whole(chunks) => {
                let bytes = chunks.into_bytes();
                *request.body_mut() = Body::from(bytes.clone());
                Ok(self.asked(request, &bytes))
            }
            Read::Cut(chunks, Ok(trailers), rest) => {
                let bytes = chunks.into_bytes();
                let chunks = Chunks::from(bytes.clone());
                *request.body_mut() = body::resumed(chunks, Ok(trailers), rest);
                Ok(self.asked(request, &bytes))
            }
            Read::Cut(_, Err(error), _) => Err(Box::pin(unread(error))),
        })
    }

    fn asked(&mut self, request: &mut Request, body: &[u8]) -> Asked {
        Asked {
            policy: self.policy,
            settings: Idempotency::of(request.extensions()),
            key: self.key.take(),
            scope: Scope::of(self.policy, request),
            fingerprint: match self.policy.fingerprint {
                FingerprintSource::Request => Some(fingerprint::of_request(request, body)),
                FingerprintSource::None => Some(fingerprint::none()),
                FingerprintSource::Expression => None,
            },
            in_handler: IdempotencyKey::place(request.extensions_mut()),
        }
    }
}

/// The response to a body that cannot be read, which Axum's own extractor knows: 413 past the limit.
async fn unread(error: axum::Error) -> Response {
    let failing = body::resumed(Chunks::default(), Err(innermost(error)), Body::empty());
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

/// Answers a request of which all is known.
fn answer(asked: Asked, facts: Facts, handler: Handler) -> BoxFuture<'static, Response> {
    let operation = asked.operation(facts);
    Box::pin(async move {
        let operation = match operation {
            Ok(Some(operation)) => operation,
            Ok(None) => return handler.await,
            Err(refusal) => return refusal.await,
        };
        let lease = match ask(&operation).await {
            Verdict::Run { lease } => Some(lease),
            Verdict::RunUnprotected => None,
            Verdict::Answer(response) => return response,
        };
        let guard = operation.settings.in_flight.enter();
        let run = match lease {
            Some(lease) => Box::pin(async move { claimed(&operation, lease, handler).await }),
            None => handler,
        };
        Detach::new(guard, run).await
    })
}

impl Asked {
    /// `None` where the request has no key. `Err` is a refusal.
    fn operation(self, facts: Facts) -> Result<Option<Operation>, BoxFuture<'static, Response>> {
        let Self { policy, settings, key, scope, fingerprint, in_handler } = self;
        let Some(key) = key.or(facts.key) else { return Ok(None) };
        if key.is_empty() {
            let problem =
                Problem::invalid_key("The idempotency key that the request gives is empty");
            return Err(Box::pin(future::ready(settings.respond(problem))));
        }
        let store_key = scope.store_key(facts.principal.as_deref(), &key);
        in_handler.set(key, store_key);
        let fingerprint = fingerprint.or(facts.fingerprint).unwrap_or_else(fingerprint::none);
        Ok(Some(Operation::new(settings, policy, store_key, fingerprint)))
    }
}

/// What is to be done with a request.
enum Verdict {
    /// Its key is claimed.
    Run {
        lease: Option<Duration>,
    },
    /// The store could not be asked, and the service prefers to run.
    RunUnprotected,
    Answer(Response),
}

/// Asks the store until it says what to do.
async fn ask(operation: &Operation) -> Verdict {
    let mut waiting = Waiting::new(operation);
    loop {
        match operation.claim().await {
            Ok(Claim::Claimed { lease }) => return Verdict::Run { lease },
            Ok(Claim::Running { fingerprint, lease_left }) => {
                let wait = Box::pin(waiting.wait(fingerprint, lease_left));
                if let Err(problem) = wait.await {
                    return Verdict::Answer(operation.settings.respond(problem));
                }
            }
            Ok(Claim::Stored { fingerprint, record, .. }) => {
                return Verdict::Answer(replay(operation, fingerprint, record));
            }
            Err(error) => return without_store(operation, &error, &waiting),
        }
    }
}

/// The patience of one duplicate, over all runs it waits for.
struct Waiting<'a> {
    operation: &'a Operation,
    since: Option<Instant>,
}

impl<'a> Waiting<'a> {
    fn new(operation: &'a Operation) -> Self {
        Self { operation, since: None }
    }

    fn has_begun(&self) -> bool {
        self.since.is_some()
    }

    /// Waits for the running request to end.
    async fn wait(
        &mut self,
        running: Option<Fingerprint>,
        lease_left: Option<Duration>,
    ) -> Result<(), Problem> {
        if running.is_some_and(|running| running != self.operation.attempt.fingerprint) {
            return Err(Problem::key_reused());
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let left = self.operation.policy.wait.saturating_sub(since.elapsed());
        if left.is_zero() {
            return Err(Problem::request_in_progress());
        }
        let at_most = lease_left.map_or(left, |lease_left| left.min(lease_left));
        self.operation.wait(at_most).await;
        Ok(())
    }
}

/// Answers from a record.
fn replay(operation: &Operation, stored: Fingerprint, record: Bytes) -> Response {
    let respond = |problem| operation.settings.respond(problem);
    if stored != operation.attempt.fingerprint {
        return respond(Problem::key_reused());
    }
    match record::decode(record) {
        Ok(Record::Response(response)) => {
            tracing::debug!(key = %operation.attempt.key, "response replayed");
            capture::replayed(response)
        }
        Ok(Record::NotStored) => respond(Problem::response_not_stored()),
        Ok(Record::Unknown) => respond(Problem::outcome_unknown()),
        Err(DecodeError::UnknownVersion) => {
            tracing::warn!(key = %operation.attempt.key, "a stored response has a format of another release");
            respond(Problem::store_unavailable())
        }
        Err(DecodeError::Corrupt) => {
            tracing::error!(key = %operation.attempt.key, "a stored response is damaged");
            respond(Problem::outcome_unknown())
        }
    }
}

/// The store could not be asked.
fn without_store(operation: &Operation, error: &StoreError, waiting: &Waiting<'_>) -> Verdict {
    let settings = &operation.settings;
    if !error.is_logged_once() {
        tracing::error!(error = error as &dyn std::error::Error, "idempotency store unavailable");
    }
    match settings.on_store_error {
        // A duplicate that has seen a running claim would be a second run.
        OnStoreError::Execute if !waiting.has_begun() => Verdict::RunUnprotected,
        OnStoreError::Execute | OnStoreError::Reject => {
            Verdict::Answer(settings.respond(Problem::store_unavailable()))
        }
    }
}

/// Runs the handler of a claimed key and settles the claim. Never cancelled.
async fn claimed(operation: &Operation, lease: Option<Duration>, handler: Handler) -> Response {
    let lease = lease.map(|lease| operation.keep(lease));
    let Operation { policy, settings, .. } = operation;
    let run = capture::capture(policy.replay, settings.max_response_bytes, handler);
    let captured = catching_panics(pin!(run)).await;
    match captured {
        Ok(Captured::Kept(record, response)) => match operation.complete(record.clone()).await {
            Ok(Hold::Held) => response,
            Ok(Hold::Lost) => Box::pin(lost(operation, record, response)).await,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "storing a response failed, trying again"
                );
                operation.complete_in_background(record, lease);
                response
            }
        },
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

/// The claim lapsed while the handler ran, so this caller is a duplicate of whoever has it now.
async fn lost(operation: &Operation, record: Bytes, response: Response) -> Response {
    tracing::warn!(key = %operation.attempt.key, "an idempotency claim was lost before its response was stored");
    let mut waiting = Waiting::new(operation);
    loop {
        match operation.claim().await {
            Ok(Claim::Claimed { .. }) => match operation.complete(record.clone()).await {
                Ok(Hold::Held) => return response,
                Ok(Hold::Lost) => {}
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
            Ok(Claim::Stored { fingerprint, record, .. }) => {
                return replay(operation, fingerprint, record);
            }
            Err(_) => return response,
        }
    }
}
