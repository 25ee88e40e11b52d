//! [`Asked`]: a request whose body is read, and how the engine has it answered.

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;

use super::{
    arrival::{Names, Open},
    evaluated::Evaluated,
    handler::Handler,
    idempotency::Settings,
    idempotency_key::IdempotencyKey,
    install::warn_of_missed_store,
    keep::Keeping,
    policy::Policy,
    problem::Problem,
    stored,
};
use crate::{
    engine::{Found, Job, Refusal, Settled},
    store::{Attempt, Extracted, Token},
};

/// A request with a key, or one whose key is an expression, its body read.
pub(super) struct Asked {
    pub(super) policy: &'static Policy,
    pub(super) settings: Arc<Settings>,
    pub(super) naming: Result<Names, Box<Open>>,
    /// How its last parameter is extracted, if a replay may do without.
    pub(super) extracted: Option<Extracted>,
    /// Where the handler finds the key, if it looks for it.
    pub(super) key_place: Option<IdempotencyKey>,
    /// The operation's name, for people.
    pub(super) operation: Option<Arc<str>>,
    pub(super) is_connect: bool,
}

impl Asked {
    /// Where the expressions are evaluated to, if they use the last parameter.
    pub(super) fn evaluated(&mut self) -> Option<&mut Evaluated> {
        self.naming.as_mut().err().map(|open| &mut open.evaluated)
    }

    /// Asks the engine, and runs `handler`, replays or refuses.
    pub(super) async fn answer(self, handler: Handler) -> Response {
        let Self { policy, settings, naming, extracted, key_place, operation, is_connect } = self;
        let names = match naming {
            Ok(names) => names,
            Err(open) => match open.names() {
                Ok(Some(names)) => names,
                Ok(None) => return handler.await,
                Err(problem) => return settings.respond(problem),
            },
        };
        if let Some(place) = key_place {
            place.set(names.key, names.store_key);
        }
        if settings.is_missed_store() {
            warn_of_missed_store(operation.as_deref());
        }
        let attempt = Attempt::new(names.store_key, names.fingerprint, Token::random());
        let attempt = match operation {
            Some(operation) => attempt.named(operation),
            None => attempt,
        };
        let engine = Arc::clone(&settings.engine);
        let job = Job { engine, attempt, ttl: policy.ttl, wait: policy.wait, extracted };
        let claimed = match job.ask().await {
            Found::Claimed(claimed) => claimed,
            Found::Unprotected => return settings.engine.run_to_end(handler).await,
            Found::Stored(answer) => return settings.replay(answer),
            Found::Refused(refusal) => return settings.refuse(refusal),
        };
        let keeping = Keeping::new(policy.replay, settings, is_connect);
        let run = claimed.run_to_end(|claimed| {
            Box::pin(async move {
                let (keep, response) = keeping.keep(handler.await).await;
                match claimed.settle(keep).await {
                    Settled::Own => response,
                    Settled::Stored(answer) => keeping.settings.replay(answer),
                    Settled::Refused(refusal) => keeping.settings.refuse(refusal),
                }
            })
        });
        run.await
    }
}

impl Settings {
    /// The response in a stored answer.
    fn replay(&self, answer: Bytes) -> Response {
        if let Some(response) = stored::decode(answer) {
            return stored::replay(response);
        }
        tracing::error!("a stored response is damaged");
        self.respond(Problem::outcome_unknown())
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
