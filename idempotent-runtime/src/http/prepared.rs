//! [`Prepared`]: a request whose body has been read, and how the engine answers it.

use std::{
    future::{Future, ready},
    panic::{AssertUnwindSafe, resume_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt as _;
use tracing::{Span, field};

#[cfg(feature = "postgres")]
use super::tx;
use super::{
    boundary::{Around, Held, Reserved, Run},
    evaluated::Evaluated,
    handler::Handler,
    idempotency::Settings,
    identity::{Identity, Unevaluated},
    install::warn_of_missed_store,
    keep::Keeping,
    policy::Policy,
    problem::Problem,
    stored,
};
use crate::{
    engine::{
        Asking, Claimed, Found, HandOver, IdempotencyKey, Job, Keep, Refusal, Settled, Watch,
        record::Form,
    },
    store::{Attempt, BoxFuture, Extracted, Slot, StoreKey, Token},
};

/// A request with a key, or one whose key is an expression, with its body read.
pub(super) struct Prepared {
    pub(super) policy: &'static Policy,
    pub(super) settings: Arc<Settings>,
    pub(super) around: Around,
    /// `Err` if its expressions use the last parameter.
    pub(super) identity: Result<Identity, Box<Unevaluated>>,
    /// How its last parameter is extracted, if a replay may skip that.
    pub(super) extracted: Option<Extracted>,
    /// Where the handler finds the key, if it looks for it.
    pub(super) key_place: Option<IdempotencyKey>,
    /// The operation's name, for display.
    pub(super) operation: Option<Arc<str>>,
    pub(super) span: Option<Arc<Span>>,
    /// Where the handler finds its transaction, if it may look for one.
    pub(super) transaction: Option<Slot>,
    pub(super) is_connect: bool,
    pub(super) body_bytes: usize,
}

impl Prepared {
    /// Where the expressions store their values, if they use the last parameter.
    pub(super) fn evaluated(&mut self) -> Option<&mut Evaluated> {
        self.identity.as_mut().err().map(|unevaluated| &mut unevaluated.evaluated)
    }

    /// Asks the engine, then runs `handler`, replays or refuses.
    pub(super) fn answer(self, handler: Handler) -> Answer {
        let Self {
            policy, settings, around, identity, extracted, key_place, operation, span, ..
        } = self;
        let transaction = wanted(self.transaction);
        let identity = match identity {
            Ok(identity) => identity,
            Err(unevaluated) => match unevaluated.identity(&settings.engine.digesting) {
                Ok(Some(identity)) => {
                    if let Some(span) = &span {
                        span.record("key", field::display(identity.store_key));
                    }
                    identity
                }
                Ok(None) => {
                    #[cfg(feature = "postgres")]
                    if let Some(slot) = transaction {
                        let keeping = Keeping::new(policy.replay, settings, self.is_connect);
                        let run = tx::run_unkeyed(handler, slot, keeping, around, operation);
                        return Answer::Driven(Box::pin(run));
                    }
                    around.without_key();
                    settings.engine.tell_without_key(operation.as_deref());
                    return Answer::Driven(handler);
                }
                Err(problem) => {
                    let refusal =
                        settings.refuse_unasked(span.as_deref(), operation.as_deref(), problem);
                    return Answer::Driven(Box::pin(ready(refusal)));
                }
            },
        };
        let key = identity.store_key;
        if let Some(place) = key_place {
            place.set(identity.key, key, settings.engine.digesting.clone());
        }
        if let Some(lent) = around.again(key) {
            return Answer::Driven(Box::pin(lent.run(handler)));
        }
        if settings.is_missed_store() {
            warn_of_missed_store(operation.as_deref());
        }
        let attempt = Attempt::new(key, identity.fingerprint, Token::random());
        let job = Job {
            engine: Arc::clone(&settings.engine),
            attempt: match operation {
                Some(operation) => attempt.named(operation),
                None => attempt,
            },
            form: Form::Answer,
            ttl: policy.ttl,
            wait: policy.wait,
            input_bytes: self.body_bytes,
            extracted,
            transaction,
            watch: Watch::new(span, stored::status),
        };
        let keeping = Keeping::new(policy.replay, settings, self.is_connect);
        Answer::Asking { asking: job.ask(), key, around, handler: Some((handler, keeping)) }
    }
}

/// `slot`, if the handler's parameters asked for a transaction.
#[cfg_attr(
    not(feature = "postgres"),
    allow(clippy::needless_pass_by_value, reason = "it is empty")
)]
fn wanted(slot: Option<Slot>) -> Option<Slot> {
    #[cfg(feature = "postgres")]
    let slot = slot.filter(|slot| slot.wanted().is_some());
    slot
}

/// The answer to a request, in progress.
///
/// Not an `async fn`, whose future would have room for all of these at once.
#[allow(clippy::large_enum_variant, reason = "a box would cost each request an allocation")]
pub(super) enum Answer {
    /// Nothing to ask: there is no key, or a boundary already has its run.
    Driven(Handler),
    /// Asking what the key holds.
    Asking {
        asking: Asking,
        key: StoreKey,
        around: Around,
        /// To be run if the key is claimed. `None` once that is known.
        handler: Option<(Handler, Keeping)>,
    },
    /// A boundary settles the run, if it can.
    Inside(BoxFuture<'static, Result<Response, (Box<Run>, Handler)>>),
    Running(HandOver<Response>),
}

impl Future for Answer {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        loop {
            let (held, keeping, handler) = match &mut *self {
                Self::Driven(handler) => return handler.as_mut().poll(cx),
                Self::Running(run) => return Pin::new(run).poll(cx),
                Self::Inside(run) => match ready!(run.as_mut().poll(cx)) {
                    Ok(response) => return Poll::Ready(response),
                    Err((run, handler)) => (run.held, run.keeping, handler),
                },
                Self::Asking { asking, key, around, handler } => {
                    let found = ready!(Pin::new(asking).poll(cx));
                    let (handler, keeping) = handler.take().expect("asking has not ended");
                    let held = match found {
                        Found::Claimed(claimed) => Held::Claim(claimed),
                        Found::Unprotected => Held::Nothing,
                        Found::Stored(answer, _) => {
                            around.replays(&answer);
                            return Poll::Ready(keeping.settings.replay(answer));
                        }
                        Found::Refused(refusal) => {
                            return Poll::Ready(keeping.settings.refuse(refusal));
                        }
                    };
                    if let Some(reserved) = around.reserved() {
                        let run = inside(reserved, Run::new(held, keeping), *key, handler);
                        *self = Self::Inside(Box::pin(run));
                        continue;
                    }
                    (held, keeping, handler)
                }
            };
            *self = Self::Running(if let Held::Claim(claimed) = held {
                claimed.run_to_end(|claimed| Box::pin(run(handler, keeping, claimed)))
            } else {
                keeping.settings.engine.run_to_end(handler)
            });
        }
    }
}

/// Runs `handler` inside a boundary, which settles the run.
///
/// # Errors
///
/// Returns an error if the boundary cannot settle the run: the run, not yet begun, and its handler.
async fn inside(
    reserved: Reserved,
    run: Run,
    key: StoreKey,
    handler: Handler,
) -> Result<Response, (Box<Run>, Handler)> {
    if let Held::Claim(claimed) = &run.held {
        claimed.begin().await;
    }
    match reserved.lend(run, Some(key)) {
        Ok(lent) => Ok(lent.run(handler).await),
        Err(run) => Err((run, handler)),
    }
}

/// Runs `handler` under its claim, and settles that before answering or resuming the handler's
/// panic.
#[expect(clippy::manual_async_fn, reason = "its future would have room for each argument twice")]
fn run(
    handler: Handler,
    keeping: Keeping,
    mut claimed: Claimed,
) -> impl Future<Output = Response> + Send {
    async move {
        claimed.begin().await;
        let kept = async { keeping.keep(handler.await).await };
        let kept = AssertUnwindSafe(kept).catch_unwind().await;
        let (keep, response) = match kept {
            Ok(kept) => kept,
            Err(panic) => {
                claimed.settle(Keep::Nothing).await;
                resume_unwind(panic)
            }
        };
        claimed.answers_with(response.status().as_u16());
        match claimed.settle(keep).await {
            Settled::Own => response,
            Settled::Stored(answer) => keeping.settings.replay(answer),
            Settled::Refused(refusal) => keeping.settings.refuse(refusal),
        }
    }
}

impl Settings {
    /// The response in a stored answer.
    pub(super) fn replay(&self, answer: Bytes) -> Response {
        if let Some(response) = stored::decode(answer) {
            return stored::replay(response);
        }
        tracing::error!(target: crate::TARGET, "a stored response is corrupt");
        self.respond(Problem::outcome_unknown())
    }

    pub(super) fn refuse(&self, refusal: Refusal) -> Response {
        self.respond(match refusal {
            // A job has used the key.
            Refusal::KeyReused | Refusal::OtherKind => Problem::key_reused(),
            Refusal::RequestInProgress => Problem::request_in_progress(),
            Refusal::ResponseNotStored => Problem::response_not_stored(),
            Refusal::OutcomeUnknown => Problem::outcome_unknown(),
            Refusal::StoreUnavailable => Problem::store_unavailable(),
            Refusal::TooManyRuns => Problem::too_many_runs(),
            #[cfg(feature = "postgres")]
            Refusal::RolledBack => Problem::rolled_back(),
            #[cfg(feature = "postgres")]
            Refusal::TransactionFailed => Problem::transaction_failed(),
        })
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use axum::{
        Json,
        body::Body,
        extract::{FromRequest as _, Request},
        response::IntoResponse as _,
    };
    use serde_json::Value;

    use super::*;
    use crate::{
        Idempotency, MemoryStore,
        fuzzing::now,
        http::{Idempotent, Known},
        store::{Fingerprint, StoreKey},
    };

    /// glibc caches chunks of up to 1,032 bytes for each thread; a larger one costs some 600 to
    /// 1,000 more instructions.
    const CACHED: usize = 1032;

    #[test]
    fn the_futures_of_a_guarded_request_stay_in_the_allocators_cache() {
        static POLICY: Policy = Policy::DEFAULT;
        let request = Request::post("/orders")
            .header("content-type", "application/json")
            .header("idempotency-key", "2c5ea4c0-4067-41fe-8bad-9b1deb4d3b7d")
            .body(Body::from("{}"))
            .expect("a request");
        let last = now(Idempotent::<Json<Value>>::from_request(request, &())).expect("infallible");
        let guarded = last.run(&POLICY, Known::Json, Json::into_response, |_| {
            |order: Json<Value>, _: Option<&mut Evaluated>| async move { order }
        });
        let size = size_of_val(&*guarded);
        assert!((200..=CACHED).contains(&size), "{size} bytes before the claim");

        let settings = Idempotency::new(MemoryStore::new()).settings;
        let key = StoreKey::from_bytes([1; 16]);
        let job = Job {
            engine: Arc::clone(&settings.engine),
            attempt: Attempt::new(key, Fingerprint::from_bytes([2; 16]), Token::random()),
            form: Form::Answer,
            ttl: POLICY.ttl,
            wait: POLICY.wait,
            input_bytes: 0,
            extracted: None,
            transaction: None,
            watch: Watch::default(),
        };
        let Found::Claimed(claimed) = now(job.ask()) else { panic!("an absent key is claimed") };
        let keeping = Keeping::new(POLICY.replay, settings, false);
        let size = size_of_val(&run(Box::pin(async { ().into_response() }), keeping, claimed));
        assert!((300..=CACHED).contains(&size), "{size} bytes under the claim");
    }
}
