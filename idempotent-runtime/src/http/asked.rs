//! [`Asked`]: a request whose last parameter is extracted, and how the engine has it answered.

use std::sync::Arc;

use axum::response::Response;

use super::{
    evaluated::Evaluated,
    handler::Handler,
    idempotency::Settings,
    idempotency_key::IdempotencyKey,
    identity::{Identity, Named},
    install::warn_of_missed_store,
    keep::Keeping,
    key::Key,
    policy::{Policy, Stage},
    problem::Problem,
    stored,
};
use crate::{
    engine::{Found, Job, Refusal, Settled},
    store::{Attempt, BoxFuture, Extracted, Token},
};

/// A request with a key, or one whose key is an expression, its body read.
pub(super) struct Asked {
    pub(super) policy: &'static Policy,
    pub(super) settings: Arc<Settings>,
    pub(super) naming: Naming,
    pub(super) evaluated: Evaluated,
    pub(super) extracted: Option<Extracted>,
    /// Where the handler finds the key, if it looks for it.
    pub(super) key_place: Option<IdempotencyKey>,
    /// The operation's name, for people.
    pub(super) operation: Option<String>,
    pub(super) is_connect: bool,
}

/// How far a request is named.
pub(super) enum Naming {
    Done(Named),
    /// Its expressions use the last parameter. Boxed, because it is rare.
    Open {
        key: Option<Key>,
        identity: Box<Identity>,
    },
}

impl Asked {
    /// Where the expressions are evaluated to, if they use the last parameter.
    pub(super) fn evaluated(&mut self) -> Option<&mut Evaluated> {
        let is_late = self.policy.evaluated == Stage::AfterExtraction;
        is_late.then_some(&mut self.evaluated)
    }

    /// Asks the engine, and runs `handler`, replays or refuses.
    pub(super) fn answer(self, handler: Handler) -> BoxFuture<'static, Response> {
        let Self { policy, settings, naming, evaluated, extracted, .. } = self;
        let named = match naming {
            Naming::Done(named) => named,
            Naming::Open { key, identity } => match evaluated.key_or(key) {
                Ok(Some(key)) => identity.name(key, &evaluated),
                Ok(None) => return handler,
                Err(problem) => return Box::pin(std::future::ready(settings.respond(problem))),
            },
        };
        if let Some(place) = self.key_place {
            place.set(named.key, named.store_key);
        }
        warn_of_missed_store(&settings, self.operation.as_deref());
        let attempt = Attempt::new(named.store_key, named.fingerprint, Token::random());
        let attempt = match self.operation {
            Some(operation) => attempt.named(operation),
            None => attempt,
        };
        let engine = Arc::clone(&settings.engine);
        let job = Job { engine, attempt, ttl: policy.ttl, wait: policy.wait, extracted };
        let keeping = Keeping::new(policy.replay, &settings, self.is_connect);
        Box::pin(async move {
            match job.ask().await {
                Found::Claimed(claimed) => {
                    let work = async move { keeping.keep(handler.await).await };
                    match claimed.settle(work).await {
                        Settled::Own(response) => response,
                        Settled::Stored(answer) => settings.replay(answer),
                        Settled::Refused(refusal) => settings.refuse(refusal),
                    }
                }
                Found::Unprotected => settings.engine.run_to_end(handler).await,
                Found::Stored(answer) => settings.replay(answer),
                Found::Refused(refusal) => settings.refuse(refusal),
            }
        })
    }
}

impl Settings {
    /// The response in a stored answer.
    fn replay(&self, answer: bytes::Bytes) -> Response {
        match stored::decode(answer) {
            Some(response) => stored::replay(response),
            None => {
                tracing::error!("a stored response is damaged");
                self.respond(Problem::outcome_unknown())
            }
        }
    }

    fn refuse(&self, refusal: Refusal) -> Response {
        self.respond(match refusal {
            Refusal::KeyReused => Problem::key_reused(),
            Refusal::RequestInProgress => Problem::request_in_progress(),
            Refusal::ResponseNotStored => Problem::response_not_stored(),
            Refusal::OutcomeUnknown => Problem::outcome_unknown(),
            Refusal::StoreUnavailable => Problem::store_unavailable(),
        })
    }
}
