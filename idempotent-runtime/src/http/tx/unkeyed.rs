//! Requests without a key whose handler takes a transaction.

use std::sync::Arc;

use axum::{extract::Request, response::Response};
use http::Method;

use super::Place;
use crate::{
    engine::{Unkeyed, is_heard},
    http::{
        handler::Handler, idempotency::Idempotency, keep::Keeping, known::Known, policy::Policy,
        scope::Scope,
    },
    store::Slot,
};

/// A request without a key whose parameters may ask for a transaction.
pub(in crate::http) struct Transacted {
    slot: Slot,
    keeping: Keeping,
    /// The operation's name, if anybody is to be told of it.
    operation: Option<Arc<str>>,
}

impl Transacted {
    /// `None` if none can be asked for: nearly always that takes no look into the request.
    pub(in crate::http) fn of(
        policy: &'static Policy,
        known: Known,
        request: &mut Request,
    ) -> Option<Self> {
        let settings = Idempotency::transactional_for(request.extensions())?;
        let keeping =
            Keeping::new(policy.replay, settings.clone(), request.method() == Method::CONNECT);
        let slot = Place::of_request(known, request.extensions_mut())?;
        let operation = is_heard().then(|| Scope::from_request(policy, request).name()).flatten();
        Some(Self { slot, keeping, operation })
    }

    /// Runs `handler`, now that its parameters are extracted.
    pub(in crate::http) async fn run(self, handler: Handler) -> Response {
        let Self { slot, keeping, operation } = self;
        if slot.wanted().is_none() {
            keeping.settings.engine.tell_without_key(operation.as_deref());
            return handler.await;
        }
        run_unkeyed(handler, slot, keeping, operation).await
    }
}

/// Runs `handler` in a transaction, and commits it or rolls it back, as the head of the response
/// says. If this is dropped before, it is rolled back.
pub(in crate::http) async fn run_unkeyed(
    handler: Handler,
    slot: Slot,
    keeping: Keeping,
    operation: Option<Arc<str>>,
) -> Response {
    let settings = &keeping.settings;
    let transaction = match Unkeyed::begin(settings.engine.clone(), slot).await {
        Ok(transaction) => transaction,
        Err(refusal) => {
            settings.engine.tell_refused(operation.as_deref(), refusal);
            return settings.refuse(refusal);
        }
    };
    let mut response = handler.await;
    let is_effective = keeping.is_effective(&mut response);
    match transaction.settle(is_effective).await {
        Ok(()) => {
            settings.engine.tell_without_key(operation.as_deref());
            response
        }
        Err(refusal) => {
            settings.engine.tell_refused(operation.as_deref(), refusal);
            settings.refuse(refusal)
        }
    }
}
